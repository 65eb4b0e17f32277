"""Figures: pure functions of rows, and of the meshes and objects that the rows are of. No torch here."""
