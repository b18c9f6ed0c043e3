"""For every test: one thread, which is faster for tiny models and lets tests run beside other work."""

import torch

torch.set_num_threads(1)
