"""What `make bench-eval` is made of; `eval_gpu` shares the network."""
