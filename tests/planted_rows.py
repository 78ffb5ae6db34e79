"""Rows of a benchmark that never was, by the milliseconds of a step and seed."""

STEP_BYTES = {"sgd": 4, "momentum": 6, "adam": 8}


def made_up(arm, engine, ms, seeds=4, batch=0, iqr=0.0, **others):
  run_s = seeds * ms * 10 / 1e3
  row = {
    "arm": arm,
    "optimizer": arm,
    "engine": engine,
    "num_seeds": seeds,
    "batch_size": batch,
    "width": seeds,
    "run_s": run_s,
    "run_s_iqr": iqr * run_s,
    "seed_steps_per_s": 1e3 / ms,
    "gemm_fraction": 0.25,
    "gemm_rate": 5e10,
    "step_flops": 5e6,
    "bandwidth": 1e10,
    "bandwidth_fraction": 0.5,
    "step_bytes": 1e6 * STEP_BYTES[arm],
    "target_accuracy": 0.9,
    "holdout_target": 0.8,
    "max_steps": 100,
    "seeds_reached": seeds,
    "accuracy_seeds": seeds,
    "compile_s": None,
    "peak_bytes": None,
    "timed_seeds": seeds,
  }
  for goal, steps in (("accuracy", 30), ("holdout", 20)):
    row |= {f"steps_to_{goal}": steps, f"seconds_to_{goal}": steps * run_s / 10}
  return {**row, **others}
