"""Everything that turns a condition image into a mesh: one folder a method, plus what they share."""
