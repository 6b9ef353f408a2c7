"""The limit for wrong tokens, with a fake clock."""

import pytest

from server.login_throttle import MAX_WRONG_TOKENS, WINDOW, LoginThrottle
from server.problem import Problem


def test_a_locked_out_client_may_try_again_later_and_others_at_any_time() -> None:
    now = 1000.0
    throttle = LoginThrottle(lambda: now)
    for number in range(MAX_WRONG_TOKENS):
        throttle.check("a")
        throttle.record("a", b"%d" % number)
    with pytest.raises(Problem, match="try again in"):
        throttle.check("a")
    throttle.check("b")
    now += WINDOW
    throttle.check("a")
