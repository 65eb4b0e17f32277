"""What a training or a generation will take, before anyone spends it: memory, FLOPs, GPU-hours.

`sizes` reads what the scale's data are like, `trace` counts one step on the meta device, `cards` knows GPUs, `totals`
puts the stages of many settings together, `table` prints them, `measure` runs a step for real.
"""
