"""What everything stands on: errors that users can fix, components by name, files that appear complete or not at all."""
