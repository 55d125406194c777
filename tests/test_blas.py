"""One thread for BLAS while anybody searches, and what was set before once nobody does."""

from retrail.retrievers.blas import _pools, one_thread


def threads() -> set[int]:
    return {pool["num_threads"] for pool in _pools().info() if pool["user_api"] == "blas"}


def test_searches_that_overlap_leave_what_was_set_before():
    with _pools().limit(limits=2, user_api="blas"):
        before = threads()
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == before
