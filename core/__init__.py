"""What every room stands on: names to random streams, atomic files, code identity, progress, errors.

Nothing here knows about meshes, models or tables, and nothing here imports a room.
"""
