"""The interest explorer: a web page that shows what served models make of a history. See docs/explorer.md."""
