"""Which profile is proposed for which board: folders made up to look like the `/` of each."""

from pathlib import Path

import pytest

from firmware_profiles import catalog
from firmware_profiles.availability import has_library
from firmware_profiles.detection import Detection, architecture_of, detect
from tests.fakes.board_root import board, put

PROFILES = catalog.load_all()
INTEL = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) Ultra 7 155H\n" + "".join(f"\nprocessor\t: {core}\n" for core in range(1, 22))
XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU\n\nprocessor\t: 1\n"


def usable(found: Detection) -> list[str]:
    return [one.backend.id for one in found.backends if one.usable]


@pytest.mark.parametrize(
    ("compatible", "architecture", "profile"),
    [
        pytest.param(["raspberrypi,4-model-b", "brcm,bcm2711"], "aarch64", "raspberry-pi-4", id="Raspberry Pi 4"),
        pytest.param(["raspberrypi,5-model-b", "brcm,bcm2712"], "aarch64", "raspberry-pi-5", id="Raspberry Pi 5"),
        pytest.param(["raspberrypi,5-compute-module", "brcm,bcm2712"], "aarch64", "raspberry-pi-5", id="another board of its chip"),
        pytest.param(
            ["nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"], "aarch64", "jetson-orin-nano", id="Jetson Orin Nano"
        ),
        pytest.param(["nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"], "aarch64", "jetson-orin-nano", id="Jetson Orin Nano Super"),
        pytest.param(["fsl,imx8mp-evk", "fsl,imx8mp"], "aarch64", "imx8m-plus", id="i.MX 8M Plus"),
        pytest.param(["fsl,imx93-11x11-evk", "fsl,imx93"], "aarch64", "imx93", id="i.MX 93"),
        pytest.param(["mediatek,mt8167-mtp", "mediatek,mt8167"], "aarch64", "coral-dev-board-mini", id="Coral Dev Board Mini"),
        pytest.param(["radxa,rock-5b", "rockchip,rk3588"], "aarch64", "rk3588", id="RK3588"),
        pytest.param(["qcom,qcs6490-rb3gen2", "qcom,qcm6490"], "aarch64", "qcs6490", id="QCS6490"),
        pytest.param(["ti,am62a7-sk", "ti,am62a7"], "aarch64", "am62a", id="AM62A"),
        pytest.param(["libretech,aml-a311d-cc", "amlogic,a311d", "amlogic,g12b"], "aarch64", "libre-computer-alta", id="Alta"),
        pytest.param(["xlnx,zynqmp-sk-kv260-revB", "xlnx,zynqmp-sk-kv260", "xlnx,zynqmp"], "aarch64", "kria-kv260", id="KV260"),
        pytest.param(["ti,am335x-bone-black", "ti,am335x-bone", "ti,am33xx"], "armv7l", "armv7-512mb", id="BeagleBone Black"),
        pytest.param(["acme,rocket", "acme,soc"], "aarch64", "generic-arm64", id="an unknown 64-bit board"),
        pytest.param(["acme,toaster"], "armv7l", "armv7-512mb", id="an unknown 32-bit board"),
        pytest.param([], "aarch64", "generic-arm64", id="a board without a device tree"),
        pytest.param([], "x86_64", "generic-x86-64", id="a machine that says nothing"),
    ],
)
def test_a_board_is_known_by_its_device_tree(tmp_path: Path, compatible: list[str], architecture, profile: str) -> None:
    found = detect(board(tmp_path, *compatible), architecture, PROFILES)
    assert found.profile.name == profile
    assert found.reasons and found.warnings == ()
    known = {*compatible} & {*found.profile.signs.compatible}
    assert any(name in found.reasons[0] for name in known) if known else "no board of the catalogue" in found.reasons[0]


@pytest.mark.parametrize(
    ("cpuinfo", "files", "profile", "reasons"),
    [
        pytest.param(INTEL, ("/dev/accel/accel0",), "x86-64-intel-npu", 2, id="Core Ultra with its NPU's driver"),
        pytest.param(INTEL, (), "x86-64-intel-npu", 1, id="Core Ultra without"),
        pytest.param(XEON, ("/dev/accel/accel0",), "generic-x86-64", 1, id="another chip with some accelerator"),
        pytest.param(XEON, (), "generic-x86-64", 1, id="another chip"),
    ],
)
def test_an_x86_machine_is_known_by_its_cpu(tmp_path: Path, cpuinfo: str, files: tuple[str, ...], profile: str, reasons: int) -> None:
    found = detect(board(tmp_path, cpuinfo=cpuinfo, files=files), "x86_64", PROFILES)
    assert (found.profile.name, len(found.reasons)) == (profile, reasons)


def test_a_mac_is_known_by_a_file_alone(tmp_path: Path) -> None:
    found = detect(board(tmp_path, files=("/System/Library/CoreServices/SystemVersion.plist",)), "aarch64", PROFILES)
    assert found.profile.name == "apple-silicon"


def test_a_backend_whose_files_are_absent_says_so(tmp_path: Path) -> None:
    root = board(tmp_path, "fsl,imx8mp-evk", "fsl,imx8mp")
    found = detect(root, "aarch64", PROFILES)
    assert found.backends[0].absent == ("/dev/galcore", "libvx_delegate.so")
    assert usable(found) == ["onnxruntime:cpu", "litert:cpu"]
    put(root, "/dev/galcore")
    put(root, "/usr/lib/libvx_delegate.so")
    assert usable(detect(root, "aarch64", PROFILES)) == ["litert:vx", "onnxruntime:cpu", "litert:cpu"]


def test_what_is_not_supported_is_never_usable(tmp_path: Path) -> None:
    found = detect(board(tmp_path, "raspberrypi,5-model-b", files=("/dev/hailo0",)), "aarch64", PROFILES)
    assert "onnxruntime:hailo" not in usable(found)


@pytest.mark.parametrize(
    ("file", "conf", "there"),
    [
        pytest.param("usr/lib/libx.so", None, True, id="in the system's folder"),
        pytest.param("usr/lib/aarch64-linux-gnu/libx.so", None, True, id="in Debian's for the architecture"),
        pytest.param("usr/local/lib/libx.so", None, True, id="in the local one"),
        pytest.param("opt/vendor/lib/libx.so", "/opt/vendor/lib\n", True, id="where ld.so.conf.d points"),
        pytest.param("opt/vendor/lib/libx.so", "# /opt/vendor/lib\n", False, id="where nothing points"),
        pytest.param("usr/lib/libx.so.1", None, False, id="of another version"),
    ],
)
def test_a_library_is_looked_for_as_the_linker_does(tmp_path: Path, file: str, conf: str | None, there: bool) -> None:
    put(tmp_path, file)
    if conf is not None:
        put(tmp_path, "etc/ld.so.conf.d/vendor.conf", conf)
    assert has_library("libx.so", tmp_path) is there
    assert has_library(f"/{file}", tmp_path)


def test_less_than_the_profile_counts_on_is_a_warning(tmp_path: Path) -> None:
    small = board(tmp_path, "raspberrypi,4-model-b", cpuinfo="processor\t: 0\n", memory_mb=900)
    assert detect(small, "aarch64", PROFILES).warnings == (
        "900 MB of memory, the profile counts on 2048",
        "1 cores, the profile counts on 4",
    )
    enough = board(tmp_path, "raspberrypi,4-model-b", memory_mb=1850)
    assert detect(enough, "aarch64", PROFILES).warnings == ()


def test_a_32_bit_system_on_a_64_bit_board_is_a_warning(tmp_path: Path) -> None:
    found = detect(board(tmp_path, "raspberrypi,4-model-b", "brcm,bcm2711"), "armv7l", PROFILES)
    assert found.profile.name == "armv7-512mb"
    assert "raspberry-pi-4" in found.warnings[0]


@pytest.mark.parametrize(
    ("machine", "bits", "architecture"),
    [
        ("x86_64", 64, "x86_64"),
        ("AMD64", 64, "x86_64"),
        ("aarch64", 64, "aarch64"),
        ("arm64", 64, "aarch64"),
        ("aarch64", 32, "armv7l"),
        ("armv7l", 32, "armv7l"),
        ("armv6l", 32, None),
        ("riscv64", 64, None),
        ("x86_64", 32, None),
    ],
)
def test_the_architecture_is_that_of_the_python(machine: str, bits: int, architecture: str | None) -> None:
    assert architecture_of(machine, bits) == architecture
