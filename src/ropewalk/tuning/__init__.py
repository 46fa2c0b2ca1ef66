"""A rotation and gains of the query found by gradient descent for one model, judged on text that it never saw."""
