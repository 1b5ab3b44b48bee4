"""The questions: what a hyper-parameter search may vary, one file per question."""
