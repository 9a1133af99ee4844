"""Parts that layers of several roles share."""
