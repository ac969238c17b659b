"""The foundry puts kits to work: find them, mix them, render with them."""
