"""The plan as a dry run prints it."""

from syncer.dry_run import Step
from tests.helpers.synced_folder import DELETE, World
from tests.syncer.folder.test_renames import swap


async def test_a_dry_run_prints_the_plan_and_changes_nothing(world: World) -> None:
    for number in range(30):
        world.write(f"{number}.bmp", number)
    for number, path in enumerate(["a.bmp", "b.bmp", "c.bmp", "d.bmp"], 100):
        world.write(path, number)
    assert {step.kind for step in await world.dry_run()} == {"new"}
    await world.sync()
    assert await world.dry_run() == []
    (world.folder / "a.bmp").rename(world.folder / "z.bmp")
    swap(world.folder, "b.bmp", "c.bmp")
    world.write("d.bmp", 200)
    world.write("e.bmp", 201)
    (world.folder / "0.bmp").unlink()
    (world.folder / "broken.bmp").symlink_to(world.folder / "nowhere")
    before = (await world.rows(), await world.objects())
    steps = await world.dry_run()
    assert [step for step in steps if step.kind != "unreadable"] == [
        Step("new", "e.bmp"),
        Step("moved", "z.bmp", "a.bmp"),
        Step("edited", "b.bmp"),
        Step("edited", "c.bmp"),
        Step("edited", "d.bmp"),
        Step("gone", "0.bmp"),
    ]
    (world.folder / "broken.bmp").unlink()
    assert Step("deleted", "0.bmp") in await world.dry_run(deletion=DELETE)
    (world.folder / "1.bmp").unlink()
    (world.folder / "2.bmp").unlink()
    (world.folder / "3.bmp").unlink()
    assert Step("gone", "0.bmp") in await world.dry_run(deletion=DELETE)
    assert "4 of 34" in world.withheld
    assert before == (await world.rows(), await world.objects())
