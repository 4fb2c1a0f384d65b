"""The page of a student: what it answers over HTTP on loopback, and what a browser makes of it."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection

import numpy as np
import pytest
from PIL import Image
from published import write_disc, write_student

from distill.cli.demo import COMMAND, open_server
from distill.data.image_io import NO_PICTURE
from distill.demo.server import is_loopback
from distill.demo.session import KEPT, title_of
from distill.inference.segmenter import open_segmenter
from distill.run import main


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = write_student(tmp_path_factory.mktemp("published") / "student")
    write_disc(folder / "examples" / "1.png", 3)
    return folder


@pytest.fixture(scope="module")
def server(student):
    with open_server(COMMAND.read([f"student={student}", "port=0"])) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(server):
    connection = HTTPConnection(*server.server_address[:2], timeout=30)

    def ask(method, path, body=None, **headers):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()

    yield ask
    connection.close()


@pytest.fixture
def disc(tmp_path):
    write_disc(tmp_path / "disc.png", 0)
    return tmp_path / "disc.png"


def picture_of(answer):
    return np.asarray(Image.open(io.BytesIO(answer[1])))


def test_an_image_is_segmented_once_and_drawn_at_any_threshold(ask, disc, student):
    seen = json.loads(ask("POST", "/images", disc.read_bytes())[1])
    assert (seen["width"], seen["height"]) == (62, 45)
    assert seen["milliseconds"] > 0
    probability = open_segmenter(student).probability(np.array(Image.open(disc)))[0]
    for threshold in (0.3, 0.5, 0.6):
        place = f"/images/{seen['id']}"
        (found,) = json.loads(ask("GET", f"{place}/regions?threshold={threshold}")[1])
        assert found["area"] == (probability >= threshold).sum()
        mask = picture_of(ask("GET", f"{place}/mask?threshold={threshold}"))
        np.testing.assert_array_equal(mask, 255 * (probability >= threshold))
        assert picture_of(ask("GET", f"{place}/overlay?threshold={threshold}")).shape == (45, 62, 3)
    grey = picture_of(ask("GET", f"/images/{seen['id']}/probability"))
    np.testing.assert_allclose(grey / 255, probability, atol=0.5 / 255 + 1e-6)


def test_a_frame_of_a_film_is_answered_by_its_overlay_with_figures_and_is_not_kept(ask, disc, server):
    seen = json.loads(ask("POST", "/images", disc.read_bytes())[1])
    before = list(server.session.images)
    for threshold in (0.3, 0.6):
        answer, body = ask("POST", f"/frames?threshold={threshold}", disc.read_bytes())
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        assert body == ask("GET", f"/images/{seen['id']}/overlay?threshold={threshold}")[1]
        figures = json.loads(answer.headers["X-Figures"])
        assert (figures["width"], figures["height"]) == (62, 45)
        assert figures["milliseconds"] > 0
        assert figures["regions"] == json.loads(ask("GET", f"/images/{seen['id']}/regions?threshold={threshold}")[1])
    assert list(server.session.images) == before
    assert ask("POST", "/frames?threshold=2", disc.read_bytes())[0].status == 400
    assert ask("POST", "/frames", b"no picture")[0].status == 422


def test_the_page_holds_what_it_needs_and_may_speak_to_nobody_else(ask):
    answer, page = ask("GET", "/")
    assert answer.status == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert not re.findall(rb"https?://|src=|@import|url\(", page)


def test_it_says_which_student_it_is_and_shows_its_examples(ask, student):
    said = json.loads(ask("GET", "/student.json")[1])
    assert (said["classes"], said["threshold"], said["examples"]) == (1, 0.5, 1)
    assert said["name"] == student.parent.name
    assert ask("GET", "/examples/0")[1] == (student / "examples" / "1.png").read_bytes()
    assert picture_of(ask("GET", "/generated/0")).shape == (384, 480, 3)


def test_the_mean_over_flips_is_another_image_of_the_same_bytes(ask, disc):
    plain, flipped = (json.loads(ask("POST", f"/images?flips={word}", disc.read_bytes())[1]) for word in ("", "true"))
    assert plain["id"] != flipped["id"]


def test_what_is_no_picture_or_unknown_is_refused_in_a_sentence(ask, disc):
    answer, body = ask("POST", "/images", b"no picture")
    assert (answer.status, json.loads(body)) == (422, {"error": f"this cannot be read: it {NO_PICTURE}"})
    assert ask("POST", "/elsewhere", b"")[0].status == 404
    for path in ("/nowhere", "/images/none/mask", "/images", "/examples/7", "/examples/../config.json"):
        assert ask("GET", path)[0].status == 404
    answer, body = ask("GET", "/", Host="evil.example")
    assert (answer.status, json.loads(body)["error"]) == (
        403,
        "this server answers to localhost, not to 'evil.example'",
    )


def test_only_the_last_images_are_remembered(ask, tmp_path):
    names = []
    for seed in range(KEPT + 1):
        write_disc(tmp_path / "disc.png", seed)
        names.append(json.loads(ask("POST", "/images", (tmp_path / "disc.png").read_bytes())[1])["id"])
    assert ask("GET", f"/images/{names[0]}/mask")[0].status == 404
    assert ask("GET", f"/images/{names[1]}/mask")[0].status == 200


def test_loopback_is_the_default_and_a_port_in_use_is_told(server, student):
    assert is_loopback(COMMAND.read(["student=s"]).host)
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.org")
    with pytest.raises(ValueError, match=r"another program uses that port; choose another by port=, or any by port=0"):
        open_server(COMMAND.read([f"student={student}", f"port={server.server_address[1]}"]))


def test_a_host_of_ipv6_is_served(student, disc):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with open_server(COMMAND.read([f"student={student}", "host=::1", "port=0"])) as server:
        port = server.server_address[1]
        assert server.url == f"http://[::1]:{port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = HTTPConnection("::1", port, timeout=30)
        connection.request("POST", "/images", disc.read_bytes(), {"Origin": server.url})
        assert connection.getresponse().status == 200
        connection.close()
        server.shutdown()


def test_wrong_words_are_told_and_a_dry_run_serves_nothing(student, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("students.catalogue.FOLDER", tmp_path)
    with pytest.raises(ValueError, match=r"distill demo needs student=, as in distill demo student=DIR"):
        open_server(COMMAND.read([]))
    with pytest.raises(ValueError, match=r"no key 'prot'.*did you mean 'port'"):
        COMMAND.read(["student=s", "prot=1"])
    with pytest.raises(ValueError, match="port is 'x', but must be a whole number from 0 to 65535"):
        COMMAND.read(["student=s", "port=x"])
    assert main(["demo", f"student={student}", "port=0", "--dry-run"]) == 0
    assert "would serve at http://127.0.0.1:" in capsys.readouterr().err


def test_a_browser_shows_mask_area_and_latency_of_a_real_image(server, shared):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (extra dev) is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    image = sorted((shared / "data" / "kvasir-seg" / "images").iterdir())[0]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.set_input_files("#file", image)
        page.wait_for_selector("#result[data-ready]")
        page.wait_for_load_state("networkidle")
        drawn = page.evaluate("document.getElementById('picture').naturalWidth")
        shown = page.inner_text("#result")
        page.click("text=Mask")
        page.wait_for_selector("#picture[src*='/mask']")
        page.evaluate("document.getElementById('threshold').value = 0.8")
        page.dispatch_event("#threshold", "input")
        page.wait_for_selector("#picture[src*='?threshold=0.8&']")
        browser.close()
    with Image.open(image) as opened:
        width, height = opened.size
    assert drawn == width
    assert f"{width} × {height}" in shown
    assert re.search(r"network\s+[\d.]+ ms", shown)
    assert "found" in shown
    assert said == []
    assert all(url.startswith((server.url, "blob:", "data:")) for url in asked)


def test_a_browser_shows_a_camera_and_a_video_frame_by_frame_and_keeps_the_frame_at_which_it_stops(server, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright (extra dev) is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    film = write_film(tmp_path / "film.webm", frames=12, size=(64, 48))
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", *camera])
        page = browser.new_page()
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        page.click("#camera")
        until(page, "document.getElementById('result').innerText.includes('frames a second')")
        width = page.evaluate("document.getElementById('film').width")
        page.click("text=Stop")
        until(page, f"document.getElementById('picture').naturalWidth === {width}")
        page.set_input_files("#file", film)
        until(page, "document.getElementById('film').width === 64")
        until(page, "!document.getElementById('result').innerText.match(/second\\s+0[.]0/)")
        page.click("#generate")
        until(page, "document.getElementById('picture').naturalWidth === 480")
        assert page.is_hidden("#film")
        (tmp_path / "broken.webm").write_bytes(b"no video")
        page.set_input_files("#file", tmp_path / "broken.webm")
        page.wait_for_selector("#error:not([hidden])")
        assert "cannot play this video" in page.inner_text("#error")
        browser.close()
    assert said == []


def until(page, expression):
    """Waits for an expression to be true; the page's policy forbids playwright's own way, which evaluates text."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def write_film(path, *, frames, size):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"VP80"), 10.0, size)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((*size[::-1], 3), 10 * number, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("place", ["student", "./student", "student/model.onnx", "model.onnx", "."])
def test_a_student_named_from_within_its_run_has_the_runs_name(tmp_path, monkeypatch, place):
    run = tmp_path / "polyps-unet"
    write_student(run / "student")
    monkeypatch.chdir(run if place.startswith(("student", "./")) else run / "student")
    assert title_of(place) == "polyps-unet"
    assert title_of("owner/name") == "name"


def test_another_pages_post_and_a_malformed_host_are_refused(ask, server, disc):
    answer, body = ask("POST", "/images", disc.read_bytes(), Origin="https://elsewhere.example")
    assert answer.status == 403
    assert b"not to one of https://elsewhere.example" in body
    assert ask("GET", "/student.json", Host="[")[0].status == 400
    own = server.url
    assert ask("POST", "/images", disc.read_bytes(), Origin=own)[0].status == 200


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(ask, disc, monkeypatch):
    monkeypatch.setattr("distill.demo.session.MOST_PIXELS", 100)
    answer, body = ask("POST", "/images", disc.read_bytes())
    assert answer.status == 422
    assert b"at most 100 are allowed" in body


def post(server, data):
    """Status and JSON of an image that is sent over a connection of its own."""
    connection = HTTPConnection(*server.server_address[:2], timeout=60)
    connection.request("POST", "/images", data)
    answer = connection.getresponse()
    said = answer.status, json.loads(answer.read())
    connection.close()
    return said


def begin_post(server, length):
    """A connection over which an image of `length` bytes is announced, and not sent."""
    connection = socket.create_connection(server.server_address[:2], timeout=60)
    host, port = server.server_address[:2]
    connection.sendall(f"POST /images HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {length}\r\n\r\n".encode())
    return connection


def test_thirty_posts_at_once_are_all_answered_while_few_of_them_fit_into_memory(server, disc, monkeypatch):
    data = disc.read_bytes()
    monkeypatch.setattr(server.budget, "free", 3 * len(data))
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: post(server, data), range(30)))
    assert [status for status, _ in answers] == [200] * 30
    assert server.budget.free == 3 * len(data)


def test_a_post_for_which_there_is_no_memory_in_time_is_refused_in_a_sentence(server, disc, monkeypatch):
    data = disc.read_bytes()
    monkeypatch.setattr("distill.demo.server.WAIT_SECONDS", 0.2)
    monkeypatch.setattr(server.budget, "free", 60 << 20)
    unfinished = begin_post(server, 60 << 20)
    while server.budget.free:
        pass
    busy = (503, {"error": "too many images are being sent at once; try again in a moment"})
    assert post(server, data + bytes(5 << 20)) == busy  # also where the refused one is still being sent
    unfinished.close()
    monkeypatch.setattr("distill.demo.server.WAIT_SECONDS", 30.0)
    assert post(server, data)[0] == 200
    monkeypatch.setattr("distill.demo.server.MOST_WAITING", 0)
    assert post(server, data) == busy


def test_an_image_that_never_arrives_gives_its_memory_back(server, monkeypatch):
    monkeypatch.setattr("distill.demo.server.BODY_SECONDS", 0.0)
    free = server.budget.free
    with begin_post(server, 1000) as connection:
        connection.sendall(b"half")
        assert b"took too long to arrive" in connection.makefile("rb").read()
    assert server.budget.free == free


def test_an_error_of_the_network_is_an_answer_and_a_student_that_answers_nonsense_is_refused(server, disc, monkeypatch):
    segmenter = server.session.segmenter

    def broken(image):
        raise RuntimeError("out of memory\nsee above")

    monkeypatch.setattr(server.session, "segmenter", replace(segmenter, run=broken))
    assert post(server, disc.read_bytes()) == (500, {"error": "out of memory"})
    nan = replace(segmenter, run=lambda image: np.full((1, *image.shape[:2]), np.nan, np.float32))
    monkeypatch.setattr(server.session, "segmenter", nan)
    status, said = post(server, disc.read_bytes())
    assert status == 422
    assert "expected probabilities in [0, 1]" in said["error"]


def test_a_threshold_that_is_no_probability_is_refused_and_without_one_the_students_own_counts(ask, disc, student):
    seen = json.loads(ask("POST", "/images", disc.read_bytes())[1])
    for wrong in ("nan", "0", "1.5", "half"):
        answer, body = ask("GET", f"/images/{seen['id']}/regions?threshold={wrong}")
        assert answer.status == 400 and "error" in json.loads(body)
    own = json.loads(ask("GET", f"/images/{seen['id']}/regions")[1])
    threshold = open_segmenter(student).thresholds.pixel
    assert own == json.loads(ask("GET", f"/images/{seen['id']}/regions?threshold={threshold}")[1])
