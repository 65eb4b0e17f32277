"""Raw meshes in, prepared shards out: watertight solids, surface points, occupancy and condition images.

Everything here runs on a plain CPU node: numpy, scipy, trimesh, embreex and Pillow, never torch.
"""
