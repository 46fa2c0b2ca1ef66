"""From a plan to stored outcomes: workers hold a model, one writer holds the store, executors stand between them."""
