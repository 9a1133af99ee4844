"""What the soak and the fuzz program share: requests made of what a server says about itself, and two ways of sending them."""
