"""What a log looks like: columns, their likely roles, and the configuration that would train on it."""
