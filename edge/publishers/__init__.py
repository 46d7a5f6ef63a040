"""Who hears of verdicts: `base` is what every publisher offers; one module or package for each kind."""
