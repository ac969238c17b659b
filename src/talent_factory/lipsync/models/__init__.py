"""The networks: the UNet that paints the mouth, its attention over time, and the judge of its pictures."""
