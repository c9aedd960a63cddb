"""Readers share, a writer is alone, and traffic does not starve it."""

import threading
import time

from zhiyin.online.shared_lock import SharedLock


def test_readers_are_together_and_a_writer_is_alone() -> None:
    lock, together = SharedLock(), threading.Barrier(4, timeout=5)
    inside, most, torn = [0], [0], [0]
    count = threading.Lock()

    def read() -> None:
        with lock.reading():
            together.wait()  # passes only when all four are inside at once

    def write() -> None:
        for _ in range(50):
            with lock.writing():
                with count:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.0001)
                with count:
                    inside[0] -= 1

    def look() -> None:
        for _ in range(50):
            with lock.reading(), count:
                torn[0] += inside[0] != 0

    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(5)
    assert not any(thread.is_alive() for thread in readers)
    mixed = [threading.Thread(target=work) for work in (write, write, look, look)]
    for thread in mixed:
        thread.start()
    for thread in mixed:
        thread.join(10)
    assert (most[0], torn[0]) == (1, 0)


def test_a_waiting_writer_goes_before_new_readers() -> None:
    lock, order = SharedLock(), []
    first_in, may_leave = threading.Event(), threading.Event()

    def first() -> None:
        with lock.reading():
            first_in.set()
            may_leave.wait(5)

    def write() -> None:
        with lock.writing():
            order.append("write")

    def late() -> None:
        with lock.reading():
            order.append("read")

    threads = [threading.Thread(target=work) for work in (first, write, late)]
    threads[0].start()
    first_in.wait(5)
    threads[1].start()
    while not lock._n_writers_waiting:
        time.sleep(0.001)
    threads[2].start()
    time.sleep(0.02)
    may_leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["write", "read"]


def test_an_error_inside_frees_the_lock() -> None:
    lock = SharedLock()
    for hold in (lock.reading, lock.writing):
        try:
            with hold():
                raise KeyError
        except KeyError:
            pass
    with lock.writing():
        pass
