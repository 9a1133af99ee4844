"""Generated data whose true interests are known: the embedded shop."""
