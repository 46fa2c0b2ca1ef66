"""Search: a rotation found for one model, judged on text that the search never saw."""
