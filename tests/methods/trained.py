"""Every kind of stage that steps are made up of: a setting that trains it, and its name."""

STAGES = [
    ("mar3d/full", "vae"),
    ("mar3d/full", "mar_lr"),
    ("mar3d/full", "mar_hr"),
    ("mar3d/hr_direct", "mar_hr_direct"),
]
STAGES += [("dit/cascade", "dit_lr"), ("dit/cascade", "dit_hr"), ("dit/dit_hr_direct", "dit_hr_direct")]
STAGES += [("dit/flow", "flow"), ("vae_study/pyramid_hr", "vae")]
