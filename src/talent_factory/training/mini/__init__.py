"""How the embedded base `mini` is made, from drawings to the shipped folder."""
