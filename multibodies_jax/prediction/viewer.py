"""The page of `multibodies view`: a prediction before the photograph's camera, live in the browser, with viser.

Everything that is decided is in `session`; this module draws it and passes on what the user does. The world is the frame
of the photograph's camera (x right, y down, z forward, metres), so that the first view is that of the photograph.
"""

import contextlib
import errno
import html
import io
import math
import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import trimesh
import viser
from jaxtyping import Float, UInt8
from PIL import Image

from multibodies_jax.export import scene, weighting
from multibodies_jax.geometry import joints
from multibodies_jax.prediction.export_files import MOST_BODIES
from multibodies_jax.prediction.session import Session
from multibodies_jax.vis import stick_figure

BY_BODY, BY_SPREAD = "body", "spread over the hypotheses"
_KNOWN, _HIDDEN, _PLACED = (40, 170, 80), (240, 150, 30), (220, 40, 160)
_MARKS = (("known", _KNOWN), ("hidden", _HIDDEN), ("placed by you", _PLACED))
_GREY = (70, 70, 70)
_LARGEST_SIDE = 1600  # Pixels of the photograph as the browser gets it.
# Sizes as a share of half of what the first view shows, at the distance of what is drawn.
_HANDLE, _LINE, _DOT = 0.022, 0.005, 0.02  # Radius of a joint's handle, thickness of a skeleton, size of a keypoint.
_BEHIND_M = 0.6  # From the rearmost joint to the photograph.
_APART_M = 0.9  # Between bodies that stand side by side.
_ASPECT = 1.3  # Width to height of the part of a window that the panel leaves free.


class ServerError(ValueError):
    """An address that the page cannot be served at; the message says why and what to do."""


class _Server(viser.ViserServer):
    """A server that never opens a tunnel to the internet, whatever a client asks for."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class Page:
    """The page of one session, served until `stop`.

    Attributes:
      session: what is shown.
      n: the slider for the number of bodies.
      hypotheses: the box that shows the skeletons of all M.
      colors: `BY_BODY` or `BY_SPREAD`.
      undo, save: the buttons.
      fov: vertical field of view of the first view, which is from the photograph's camera along its axis, radians.
    """

    def __init__(
        self, session: Session, photograph: UInt8[np.ndarray, "H W 3"], path: str | os.PathLike, host: str, port: int
    ):
        """Starts the server.

        Args:
          session: of a prediction of this photograph.
          photograph: upright.
          path: the file that the button "Save" writes.
          host: address to listen at; `127.0.0.1` is reached from this machine only.
          port: 1 to 65535; 0 takes a free one.

        Raises:
          ServerError: the port is in use, or the address is none of this machine.
        """
        _check_address(host, port)
        self.session = session
        self._path = pathlib.Path(path)
        self._lock = threading.RLock()
        with contextlib.redirect_stdout(io.StringIO()):  # viser's own note; the command says where the page is.
            self._server = _Server(host=host, port=port, label="multibodies", verbose=False)
        if port and self._server.get_port() != port:  # Taken since it was checked.
            self._server.stop()
            raise ServerError(_in_use(port))
        self.host = host
        self._bodies: list[Any] = []
        self._handles: dict[str, Any] = {}
        self._grabbed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._seconds: float | None = None
        self._scene_and_camera(photograph)
        self._controls()
        self.draw()

    @property
    def port(self) -> int:
        """The port that is listened at."""
        return self._server.get_port()

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        host = "localhost" if self.host in ("", "0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def shown(self) -> int:
        """How many bodies are drawn."""
        return len(self._bodies)

    @property
    def message(self) -> str:
        """The last answer, as the panel shows it, without markup."""
        return self._message

    def stop(self) -> None:
        """Ends the server."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def wait(self) -> None:
        """Serves until the program is interrupted.

        Raises:
          KeyboardInterrupt: it was interrupted.
        """
        self._server.sleep_forever()

    def drop(self, joint: str, point: Float[np.ndarray, "3"]) -> None:
        """What happens when a joint's handle is let go: the joint is placed where the camera sees the point.

        Args:
          joint: a name of J24.
          point: in the frame of the photograph's camera, metres.
        """
        with self._lock:
            before = self.session.prediction.spread
            self._say(f"Fitting all {self.session.num_hypotheses} hypotheses to {joint} ...")
            start = time.perf_counter()
            try:
                pixel = self.session.pixel_of(point)
                self.session.place(joint, pixel)
            except ValueError as error:
                self.draw()
                self._say(str(error))
                return
            self.draw()
            seconds = time.perf_counter() - start
            k = joints.J24.index(joint)
            now = 1000 * self.session.prediction.spread[k]
            self._say(
                f"{joint} is at ({pixel[0]:.0f}, {pixel[1]:.0f}): its spread was {1000 * before[k]:.0f} mm and is "
                f"{now:.0f} mm ({seconds:.2f} s)."
            )

    def draw(self) -> None:
        """Shows the session as it is."""
        with self._lock:
            prediction = self.session.prediction
            by_spread = self.colors.value == BY_SPREAD
            made = scene.build([prediction.record], prediction.body.smpl, vertex_spread=by_spread)
            person = made.people[0]
            weighted = person.weighted()
            with self._server.atomic():
                for old in self._bodies[len(weighted) :]:
                    old.remove()
                most = weighted[0][2]
                self._bodies = [
                    self._body(made, person, rank, body, by_spread, chance / most)
                    for rank, (_, body, chance) in enumerate(weighted)
                ]
                self._joints(weighted[0][1].joints24)
                self._skeletons()
                self._evidence()
                self._panel([chance for *_, chance in weighted])

    def _scene_and_camera(self, photograph: UInt8[np.ndarray, "H W 3"]) -> None:
        """The photograph as a plane behind the bodies, and the first view from where it was taken."""
        record = self.session.prediction.record
        points = self._hypotheses_joints()[..., 2]
        self._depth = float(points.max()) + _BEHIND_M
        focal, (width, height) = float(record["focal_px"]), record["image_size"].tolist()
        image = Image.fromarray(photograph)
        image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        view = self._server.scene
        view.set_up_direction("-y")
        self._photograph = view.add_image(
            "/photograph",
            np.asarray(image),
            width * self._depth / focal,
            height * self._depth / focal,
            position=(0.0, 0.0, self._depth),
            cast_shadow=False,
            receive_shadow=False,
        )
        first = self._server.initial_camera
        self._target = (0.0, 0.0, float(np.median(points)))
        first.position, first.look_at, first.up = (0.0, 0.0, 0.0), self._target, (0.0, -1.0, 0.0)
        self.fov = first.fov = 2 * math.atan(1.05 * max(height, width / _ASPECT) / 2 / focal)
        self._unit = math.tan(self.fov / 2) * self._target[2]

    def _controls(self) -> None:
        session, panel = self.session, self._server.gui
        panel.main_panel.dock_right()
        panel.configure_theme(show_share_button=False, show_logo=False, control_width="large")
        most = min(MOST_BODIES, session.num_hypotheses)
        self._about = panel.add_html("")
        self.n = panel.add_slider("bodies (n)", 1, max(most, session.n), 1, session.n)
        self._weights = panel.add_html("")
        self.colors = panel.add_dropdown("colours", (BY_BODY, BY_SPREAD), initial_value=BY_BODY)
        self._opacity = panel.add_slider("opacity", 0.1, 1.0, 0.05, 0.5)
        self.hypotheses = panel.add_checkbox(f"all {session.num_hypotheses} hypotheses", False)
        self._side = panel.add_checkbox("side by side", False)
        self._behind = panel.add_checkbox("photograph", True)
        self._dots = panel.add_checkbox("joints to drag", True)
        self._placed = panel.add_html("")
        self.undo = panel.add_button("Undo")
        self.save = panel.add_button(f"Save to {self._path.name}")
        self._front = panel.add_button("View of the photograph")
        self._status = panel.add_html("")
        self._message = ""
        self._say(session.note or session.blocked)

        def on(control: Any, act: Callable[[], None]) -> None:
            def answer(_: Any) -> None:
                with self._lock:
                    try:
                        act()
                    except (ValueError, OSError) as error:
                        self._say(str(error))

            (control.on_click if hasattr(control, "on_click") else control.on_update)(answer)

        for control in (self.colors, self._opacity, self.hypotheses, self._side, self._behind, self._dots):
            on(control, self.draw)
        on(self.n, self._choose)
        on(self.undo, self._take_back)
        on(self.save, self._keep)
        self._front.on_click(lambda event: self._to_front(event.client))

    def _choose(self) -> None:
        self.session.set_n(int(self.n.value))
        self.draw()

    def _take_back(self) -> None:
        self.session.undo()
        self.draw()
        self._say("The last joint was taken back.")

    def _keep(self) -> None:
        self.session.save(self._path)
        self._say(f"Saved to {self._path}, with the placed joints.")

    def _to_front(self, client: Any) -> None:
        if client is not None:
            with client.atomic():
                client.camera.up_direction, client.camera.fov = (0.0, -1.0, 0.0), self.fov
                client.camera.position, client.camera.look_at = (0.0, 0.0, 0.0), self._target

    def _body(
        self, made: scene.Scene, person: scene.Person, rank: int, body: scene.Body, by_spread: bool, share: float
    ) -> Any:
        """Draws a body, the fainter the less probable it is; `share` is its probability over that of the first."""
        vertices = made.vertices(body).astype(np.float32)
        name, shift = f"/bodies/{rank}", (_APART_M * rank if self._side.value else 0.0, 0.0, 0.0)
        if by_spread:
            colors = (255 * scene.spread_colors(person)).astype(np.uint8)
            mesh = trimesh.Trimesh(vertices, made.faces, vertex_colors=colors, process=False)
            _ = mesh.vertex_normals  # Stored by being read; without them the browser shades each triangle flat.
            return self._server.scene.add_mesh_trimesh(name, mesh, position=shift, cast_shadow=False)
        opacity = float(self._opacity.value) * (0.4 + 0.6 * share)
        return self._server.scene.add_mesh_simple(
            name,
            vertices,
            made.faces.astype(np.uint32),
            color=_rgb(scene.COLORS[rank % len(scene.COLORS)]),
            opacity=None if opacity >= 1 else opacity,
            position=shift,
            cast_shadow=False,
            receive_shadow=False,
        )

    def _joints(self, places: Float[np.ndarray, "24 3"]) -> None:
        """Handles at the joints of the most probable body."""
        record = self.session.prediction.record
        for k, name in enumerate(joints.J24):
            if name not in self._handles:
                self._handles[name] = self._handle(name)
            handle = self._handles[name]
            known, placed = record["keypoints"][k, 2] > 0, record["placed"][k] > 0
            handle.position = places[k]
            handle.color = _PLACED if placed else _KNOWN if known else _HIDDEN
            handle.visible = bool(self._dots.value)

    def _handle(self, name: str) -> Any:
        handle = self._server.scene.add_icosphere(
            f"/joints/{name}", _HANDLE * self._unit, subdivisions=2, cast_shadow=False
        )
        if self.session.blocked:
            return handle

        def follow(event: viser.SceneNodeDragEvent) -> None:
            """Moves the handle with the pointer, in a plane that faces the user; letting go places the joint."""
            with self._lock:
                if event.phase == "start":
                    self._grabbed[name] = np.array(handle.position), np.array(event.start_position)
                    self._say(f"{name}: let go where it must be.")
                if name not in self._grabbed:
                    return
                center, grabbed = self._grabbed[name]
                point = center + np.array(event.end_position) - grabbed
                handle.position = point
                if event.phase == "end":
                    del self._grabbed[name]
                    self.drop(name, point)

        handle.on_drag(follow)
        return handle

    def _hypotheses_joints(self) -> Float[np.ndarray, "M 24 3"]:
        """J24 of all hypotheses in the frame of the photograph's camera."""
        record = self.session.prediction.record
        points = record["all_joints24"] + record["all_midhip"][:, None]
        return points @ record["photo_rotation"].T + record["all_photo_translation"][:, None]

    def _skeletons(self) -> None:
        edges = np.array(stick_figure.J24_EDGES)
        segments = self._hypotheses_joints()[:, edges].reshape(-1, 2, 3)
        self._server.scene.add_line_segments(
            "/hypotheses", segments, _GREY, thickness=_LINE * self._unit, visible=bool(self.hypotheses.value)
        )

    def _evidence(self) -> None:
        """The keypoints, on the photograph."""
        record = self.session.prediction.record
        self._photograph.visible = bool(self._behind.value)
        known = record["keypoints"][:, 2] > 0
        z = self._depth - 0.03  # Clear of the photograph.
        points = np.full((int(known.sum()), 3), z, np.float32)
        points[:, :2] = (record["keypoints"][known, :2] - record["principal_point"]) * z / float(record["focal_px"])
        colors = np.where(record["placed"][known, None] > 0, _PLACED, _KNOWN).astype(np.uint8)
        if len(points):
            self._server.scene.add_point_cloud(
                "/keypoints",
                points,
                colors,
                point_size=_DOT * self._unit * z / self._target[2],
                point_shape="circle",
                precision="float32",
                visible=bool(self._behind.value),
            )

    def _panel(self, chances: list[float]) -> None:
        prediction = self.session.prediction
        record = prediction.record
        about = (
            f"Body: {record['body']}. Trained on: {record['trained_on']}. Focal length: {float(record['focal_px']):.0f} px "
            f"({record['focal_source']}). Weights of the hypotheses: {weighting.in_words(record)}."
        )
        self._about.content = _text(f"<b>{html.escape(prediction.name)}</b><br><small>{html.escape(about)}</small>")
        rows = []
        for rank, (chance, error) in enumerate(zip(chances, record["error_px"], strict=True)):
            color = "#{:02x}{:02x}{:02x}".format(*_rgb(scene.COLORS[rank % len(scene.COLORS)]))
            missed = "" if math.isnan(error) else f"{error:.1f} px"
            rows.append(
                f"<tr><td style='color:{color}'>&#9632;</td><td>body {rank + 1}</td><td align=right>{chance:.1%}</td>"
                f"<td align=right style='padding-left:1em'>{missed}</td></tr>"
            )
        self._weights.content = _text(f"<table>{''.join(rows)}</table>")
        marks = ", ".join(f"<span style='color:rgb{color}'>&#9679;</span> {name}" for name, color in _MARKS)
        spread = prediction.spread
        order = [k for k in np.argsort(-spread) if record["keypoints"][k, 2] <= 0][:4]
        unsure = ", ".join(f"{joints.J24[k]} {1000 * spread[k]:.0f} mm" for k in order) or "no joint is hidden"
        placed = ", ".join(self.session.placed) or "none"
        self._placed.content = _text(
            f"Joints of body 1: {marks}. Drag one to where it must be.<br>Least sure: {unsure}.<br>Placed: {placed}."
        )
        self.undo.disabled = not self.session.steps_back

    def _say(self, message: str) -> None:
        self._message = message
        self._status.content = _text(f"<b>{html.escape(message)}</b>")


def _text(markup: str) -> str:
    """HTML in the panel's margins; what comes out of a file is escaped by the caller."""
    return f"<div style='padding:0 0.8em 0.3em;font-size:0.85em;line-height:1.45'>{markup}</div>"


def _rgb(color: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in color)
    return red, green, blue


def _in_use(port: int) -> str:
    return (
        f"Port {port} is in use, perhaps by another viewer; choose another one with --port=NUMBER (0 takes a free one)."
    )


def _check_address(host: str, port: int) -> None:
    """Refuses what cannot be listened at, where viser would silently take the next free port."""
    if not 0 <= port <= 65535:
        raise ServerError(f"There is no port {port}; choose 1 to 65535, or 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ServerError(
            f"There is no address {host!r} ({error.strerror}); --host=127.0.0.1 is this machine."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServerError(_in_use(port)) from error
        raise ServerError(
            f"{host}:{port} cannot be listened at ({error.strerror}); choose another --host or --port."
        ) from error
