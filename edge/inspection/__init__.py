"""From frame to verdict: `preprocess`, `scorer`, `anomaly_map`, `crops`, `inspector`; `golden` proves a device."""
