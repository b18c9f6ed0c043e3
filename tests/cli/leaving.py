"""Components that leave something running, each for ever. `test_left_running.py` copies this file beside a run file."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import plugrad
from plugrad import LossOutputs


def for_ever():
    while True:
        time.sleep(0.1)


def a_thread():
    threading.Thread(target=for_ever, name="of-the-loss", daemon=False).start()


def a_thread_of_a_thread():
    starts = threading.Thread(target=a_thread, daemon=True)
    starts.start()
    starts.join()


POOLS = []


def a_busy_pool():
    POOLS.append(ThreadPoolExecutor(1, thread_name_prefix="of-the-pool"))
    POOLS[-1].submit(for_ever)


def an_idle_pool():
    POOLS.append(ThreadPoolExecutor(1, thread_name_prefix="of-the-idle"))
    POOLS[-1].submit(int).result()


def a_process():
    multiprocessing.get_context("fork").Process(target=for_ever, name="of-the-environment").start()


def loss(inputs):
    if inputs.step == 1:
        a_thread_of_a_thread()
    return LossOutputs(-(inputs.trainer_logprobs * inputs.advantages).sum())


class Environment:
    def __init__(self):
        a_process()

    def train_examples(self):
        return [{"prompt": "1+1=", "reference": "2"}] * 4

    def eval_examples(self):
        return []

    def score(self, rollouts):
        return [1.0] * len(rollouts)


class Extension:
    @plugrad.hookimpl
    def on_run_end(self):
        an_idle_pool()
        a_busy_pool()
