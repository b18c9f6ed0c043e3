"""Alarms: what is due is called once, in its order, and what was dropped is not."""

import os
import threading

from plugrad.host.alarms import Alarms


def test_what_is_due_is_called_and_what_is_dropped_is_not():
    alarms, called, done = Alarms(), [], threading.Event()
    alarms.set("last", 0.2, lambda: (called.append("last"), done.set()))
    alarms.set("first", 0.05, lambda: called.append("first"))
    alarms.set("dropped", 0.1, lambda: called.append("dropped"))
    alarms.set("never", 1e9, lambda: called.append("never"))
    alarms.drop("dropped")
    assert done.wait(30.0)
    alarms.drop("last")
    assert called == ["first", "last"]


def test_many_alarms_share_one_thread():
    alarms, before = Alarms(), threading.active_count()
    for key in range(1000):
        alarms.set(key, 100.0, os.abort)
        alarms.drop(key)
    assert threading.active_count() == before + 1
