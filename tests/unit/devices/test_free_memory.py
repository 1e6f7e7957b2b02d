"""The free memory of a machine, or what its control groups leave of it."""

from __future__ import annotations

from peftlab.devices.free_memory import free_memory


def test_it_is_a_number():
    assert free_memory() >= 0


def test_it_is_what_the_narrowest_control_group_has_left(tmp_path):
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    assert free_memory(tmp_path) == 0  # it does not say
    write("proc/meminfo", "MemTotal: 900 kB\nMemAvailable:     800 kB\n")
    assert free_memory(tmp_path) == 800 * 1024
    write("proc/self/cgroup", "0::/jobs/one\n")
    write("sys/fs/cgroup/jobs/one/memory.max", "max\n")
    write("sys/fs/cgroup/jobs/one/memory.current", "7000\n")
    assert free_memory(tmp_path) == 800 * 1024
    write("sys/fs/cgroup/jobs/memory.max", "30000\n")
    write("sys/fs/cgroup/jobs/memory.current", "9000\n")
    assert free_memory(tmp_path) == 21_000
    write("sys/fs/cgroup/jobs/memory.stat", "anon 2000\nfile 6500\nshmem 500\nactive_file 1000\ninactive_file 5000\n")
    assert free_memory(tmp_path) == 27_000  # files that it has read are given back
    write("proc/self/cgroup", "9:name=systemd:/\n4:memory:/docker/x\n")  # the first version
    write("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n")
    write("sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n")
    assert free_memory(tmp_path) == 0
    write("sys/fs/cgroup/memory/memory.stat", "inactive_file 9\ntotal_active_file 700\ntotal_inactive_file 1300\n")
    assert free_memory(tmp_path) == 1000
