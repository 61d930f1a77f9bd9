"""Undistortion: calibrations as they are written in the wild, the table against OpenCV, frames beside events."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpipe.errors import FormatError, InputError
from rtpipe.packing import unpack
from rtpipe.types import Frame
from rtpipe.window.filters import undistort
from rtpipe.window.filters.calibration import Calibration, fault, load, parse
from tests.window.filters import slow

NUMBERS = (200.5, 201.5, 118.25, 91.75)
LENS = (-0.3, 0.1, 0.001, -0.002, 0.02)
RESOLUTION = (240, 180)
ROS = """\
image_width: 240
image_height: 180
camera_name: davis
camera_matrix: {rows: 3, cols: 3, data: [200.5, 0, 118.25, 0, 201.5, 91.75, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [-0.3, 0.1, 0.001, -0.002, 0.02]}
"""
KALIBR = """\
cam0:
  camera_model: pinhole
  intrinsics: [200.5, 201.5, 118.25, 91.75]
  distortion_model: radtan
  distortion_coeffs: [-0.3, 0.1, 0.001, -0.002, 0.02]
  resolution: [240, 180]
  T_cam_imu:
  - [1.0, 0.0, 0.0, 0.0]
"""


def settings_of(calibration):
    return undistort.Settings(matrix=calibration.matrix, distortion=calibration.distortion, model=calibration.model)


def opened(settings, resolution=RESOLUTION):
    filter_ = undistort.Filter(settings)
    filter_.open(resolution)
    return filter_


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("calib.txt", "200.5 201.5 118.25 91.75 -0.3 0.1 0.001 -0.002 0.02\n"),
        ("ros.yaml", ROS),
        ("kalibr.yaml", KALIBR),
        ("own.yaml", "matrix: [200.5, 201.5, 118.25, 91.75]\ndistortion: [-0.3, 0.1, 0.001, -0.002, 0.02]\n"),
    ],
)
def test_calibrations_of_others_are_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = load(tmp_path / name)
    assert (found.matrix, found.distortion, found.model) == (NUMBERS, LENS, "pinhole")
    assert found.resolution in (None, RESOLUTION)
    a = opened(undistort.Settings(calibration=str(tmp_path / name)))
    b = opened(settings_of(Calibration(NUMBERS, LENS)))
    np.testing.assert_array_equal(a._table, b._table)


def test_what_opencv_itself_writes_is_read(tmp_path):
    path = tmp_path / "opencv.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("camera_matrix", np.array([[200.5, 0, 118.25], [0, 201.5, 91.75], [0, 0, 1.0]]))
    storage.write("distortion_coefficients", np.array([LENS]))
    storage.release()
    found = load(path)
    assert (found.matrix, found.distortion) == (NUMBERS, LENS)


def test_the_calibration_of_the_slider_recording_is_read(shared):
    found = load(shared("recordings/ijrr_slider_depth/calib.txt"))
    assert len(found.distortion) == 5
    assert 190 < found.matrix[0] < 350
    assert opened(undistort.Settings(calibration=str(shared("recordings/ijrr_slider_depth/calib.txt")))).flow.balanced


@pytest.mark.parametrize("model", ["pinhole", "fisheye"])
def test_every_pixel_goes_where_distortion_brings_it_from(model):
    """Distorting the place that a pixel is given must lead back to the pixel: OpenCV's forward model is the judge."""
    lens = LENS if model == "pinhole" else (0.05, -0.02, 0.003, -0.001)
    places = undistort.places(Calibration(NUMBERS, lens, model), RESOLUTION)
    fx, fy, cx, cy = NUMBERS
    rays = (places.reshape(-1, 2) - [cx, cy]) / [fx, fy]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if model == "pinhole":
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        back = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(lens))[0].reshape(180, 240, 2)
    else:
        back = cv2.fisheye.distortPoints(rays[:, None], matrix, np.array(lens)).reshape(180, 240, 2)
    pixels = np.stack(np.meshgrid(np.arange(240), np.arange(180)), axis=-1)
    assert np.abs(back - pixels).max() < 0.05


def test_events_move_to_the_nearest_pixel_and_those_outside_are_counted():
    calibration = Calibration(NUMBERS, (-0.3, 0.1, 0.0, 0.0))
    filter_ = opened(settings_of(calibration))
    tuples = [(y * 240 + x, x, y, (x + y) % 2) for y in range(180) for x in range(240)]
    kept = slow.rows(unpack(filter_.apply(slow.packed(tuples))))
    places = undistort.places(calibration, RESOLUTION)
    wanted = []
    for t, x, y, p in tuples:
        column, row = (round(float(value)) for value in places[y, x])
        if 0 <= column < 240 and 0 <= row < 180:
            wanted.append((t, column, row, p))
    assert kept == wanted
    assert filter_.flow.dropped == {"undistort": len(tuples) - len(wanted)}
    assert 0 < len(wanted) < len(tuples)


def test_without_distortion_nothing_moves():
    filter_ = opened(undistort.Settings(matrix=NUMBERS))
    tuples = [(k, k % 240, k % 180, k % 2) for k in range(1000)]
    assert slow.rows(unpack(filter_.apply(slow.packed(tuples)))) == tuples


def test_frames_and_events_come_to_the_same_place():
    """A bright dot in the frame lies where the events of its pixel are."""
    filter_ = opened(settings_of(Calibration(NUMBERS, LENS)))
    for x, y in [(30, 40), (200, 60), (120, 90), (60, 150)]:
        image = np.zeros((180, 240), np.uint8)
        cv2.circle(image, (x, y), 3, 255, -1)
        made = filter_.frame(Frame(image, 7, 3, 11))
        assert (made.t, made.exposure_start, made.exposure_end) == (7, 3, 11)
        rows, columns = np.nonzero(made.image > 127)
        event = unpack(filter_.apply(slow.packed([(0, x, y, 1)])))
        assert abs(columns.mean() - event.x[0]) < 1
        assert abs(rows.mean() - event.y[0]) < 1
        filter_.reset()


def test_a_calibration_of_another_camera_is_refused(tmp_path):
    (tmp_path / "ros.yaml").write_text(ROS)
    with pytest.raises(InputError, match=r"240, 180.*346, 260"):
        opened(undistort.Settings(calibration=str(tmp_path / "ros.yaml")), (346, 260))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1 2 3",
        "200 200 100 100 nan 0 0 0 0",
        "0 200 100 100 0 0 0 0 0",
        "a: &a [*a]",
        "camera_matrix: {data: [1, 2]}\ndistortion_coefficients: {data: []}",
        "matrix: [200, 200, 100, 100]\ndistortion: [0.1, 0.2]",
        "matrix: [200, 200, 100, 100]",
        "matrix: [200, 200, 100, [[1]]]\ndistortion: [0, 0, 0, 0]",
        "matrix: 5\ndistortion: [0, 0, 0, 0]",
        "matrix: !!python/object/apply:os.getcwd []\ndistortion: []",
        "matrix: [200, 200, 1e300, 100]\ndistortion: []",
        "matrix: [200, 200, 100, 100]\ndistortion: [0, 0, 0, 0]\nmodel: cat's eye",
        "[" * 3000,
        "x" * 100_000,
        "\x00\x01\xff",
    ],
)
def test_what_is_no_calibration_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "calib.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value).removeprefix(str(path))) < 400


@given(
    st.text(max_size=200) | st.builds(lambda a, b: f"matrix: {a}\ndistortion: {b}", st.text(), st.lists(st.floats()))
)
def test_no_text_breaks_the_parser(text):
    try:
        found = parse(text)
    except ValueError:
        return
    if not fault(found):
        undistort.table(found, (16, 12))


@given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=5))
def test_no_lens_sends_an_event_off_the_sensor(lens):
    """Absurd coefficients included: what has no place is removed, with no warning and no wild index."""
    table = undistort.table(Calibration((20.0, 20.0, 8.0, 6.0), tuple(lens)), (16, 12))
    inside = table[table != undistort.OUTSIDE]
    assert ((inside & 0xFFFF) < 16).all()
    assert ((inside >> 16) < 12).all()
