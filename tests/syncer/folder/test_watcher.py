"""A changed file is synced once it has not changed for a while."""

from syncer.folder.watcher import StabilityCheck


def test_a_late_notification_does_not_prolong_the_wait() -> None:
    stability = StabilityCheck()
    stability.changed("a.jpg", age=StabilityCheck.QUIET / 2)
    assert stability.seconds_until_due() <= StabilityCheck.QUIET / 2
    stability.changed("b.jpg", age=StabilityCheck.QUIET)
    assert list(stability.due()) == ["b.jpg"]


def test_each_further_change_starts_the_wait_again() -> None:
    stability = StabilityCheck()
    stability.changed("a.jpg", age=StabilityCheck.QUIET)
    stability.changed("a.jpg")
    assert list(stability.due()) == []
