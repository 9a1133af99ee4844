"""Charts as SVG, from values alone: readable at 360 pixels, in light and dark and on paper, without a script."""
