"""From a log to what user-tag models learn from: states of users, labelled items with their tags, and tags to predict."""
