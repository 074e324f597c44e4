"use strict";
// The viewer of a photograph's weighted bodies: WebGL 2, nothing else. `data` is what export/page.py writes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const VIEWS = { front: [0, 0], side: [90, 0], back: [180, 0], top: [0, 89] };

  // ---- What was written, as arrays -------------------------------------------------------------------------------

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  const faces = new Uint16Array(bytes(data.faces).buffer);

  function prepare(body) {
    const packed = new Uint16Array(bytes(body.vertices).buffer);
    const vertices = new Float32Array(packed.length);
    for (let i = 0; i < packed.length; i++) {
      vertices[i] = body.low[i % 3] + body.step[i % 3] * packed[i];
    }
    body.positions = vertices;
    body.normals = smoothNormals(vertices);
  }

  function smoothNormals(v) {
    const normals = new Float32Array(v.length);
    for (let i = 0; i < faces.length; i += 3) {
      const [a, b, c] = [3 * faces[i], 3 * faces[i + 1], 3 * faces[i + 2]];
      const [ux, uy, uz] = [v[b] - v[a], v[b + 1] - v[a + 1], v[b + 2] - v[a + 2]];
      const [wx, wy, wz] = [v[c] - v[a], v[c + 1] - v[a + 1], v[c + 2] - v[a + 2]];
      const normal = [uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx];
      for (const corner of [a, b, c]) {
        for (let k = 0; k < 3; k++) normals[corner + k] += normal[k];
      }
    }
    return normals;
  }

  // ---- What is chosen ----------------------------------------------------------------------------------------------

  const counts = [...new Set(data.people.flatMap((person) => Object.keys(person.sets).map(Number)))].sort((a, b) => a - b);
  const hash = new URLSearchParams(location.hash.slice(1));
  const state = {
    n: counts.includes(Number(hash.get("n"))) ? Number(hash.get("n")) : data.chosen,
    off: new Set(), // "person/rank" of bodies that are switched off.
    yaw: 90, pitch: 0, zoom: 1, distance: 0,
  };
  [state.yaw, state.pitch] = VIEWS[hash.get("view")] || VIEWS.side;

  function shown() {
    const found = [];
    for (const person of data.people) {
      const set = person.sets[state.n] || person.sets[Math.max(...Object.keys(person.sets).map(Number))];
      set.bodies.forEach((k, rank) => found.push({
        person, rank, body: person.bodies[k], probability: set.probabilities[rank],
        color: data.colors[rank % data.colors.length], key: `${person.number}/${rank}`,
      }));
    }
    return found;
  }

  const visible = () => shown().filter((item) => !state.off.has(item.key));

  // ---- Drawing -----------------------------------------------------------------------------------------------------

  const VERTEX = `#version 300 es
    in vec3 position; in vec3 normal; in vec3 tint;
    uniform vec4 rows[3]; uniform vec4 depth; uniform vec3 shift; uniform mat3 turn;
    out vec3 n; out vec3 t;
    void main() {
      vec4 p = vec4(position + shift, 1.0);
      float w = dot(rows[2], p);
      gl_Position = vec4(dot(rows[0], p), dot(rows[1], p), dot(depth, p) * w, w);
      n = turn * normal; t = tint;
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec3 n; in vec3 t; uniform vec3 color; uniform float alpha; uniform float tinted; out vec4 result;
    void main() {
      vec3 m = normalize(n);
      float light = 0.30 + 0.18 * (0.5 - 0.5 * m.y) + 0.45 * max(dot(m, vec3(-0.45, -0.65, -0.61)), 0.0) + 0.25 * max(-m.z, 0.0);
      result = vec4(mix(color, t, tinted) * min(light, 1.1) * alpha, alpha);
    }`;

  class Stage {
    constructor(canvas) {
      this.canvas = canvas;
      this.buffers = new Map();
      const gl = canvas.getContext("webgl2", { antialias: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
      if (!gl) throw new Error("this browser has no WebGL 2");
      this.gl = gl;
      this.program = gl.createProgram();
      for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        gl.attachShader(this.program, shader);
      }
      gl.linkProgram(this.program);
      if (!gl.getProgramParameter(this.program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(this.program));
      gl.useProgram(this.program);
      this.at = (name) => gl.getUniformLocation(this.program, name);
      gl.enable(gl.DEPTH_TEST);
      gl.depthFunc(gl.LEQUAL);
      gl.enable(gl.CULL_FACE);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    }

    load(item) {
      const { gl } = this;
      if (!this.buffers.has(item.body)) {
        if (!item.body.positions) prepare(item.body);
        const array = gl.createVertexArray();
        gl.bindVertexArray(array);
        const attribute = (name, values, kind, normalized) => {
          const place = gl.getAttribLocation(this.program, name);
          gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
          gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
          gl.enableVertexAttribArray(place);
          gl.vertexAttribPointer(place, 3, kind, normalized, 0, 0);
        };
        attribute("position", item.body.positions, gl.FLOAT, false);
        attribute("normal", item.body.normals, gl.FLOAT, false);
        attribute("tint", item.person.tint, gl.UNSIGNED_BYTE, true);
        gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
        gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
        this.buffers.set(item.body, array);
      }
      gl.bindVertexArray(this.buffers.get(item.body));
    }

    // Draws items in this order. Each is first written to the depth buffer alone, so that it does not shine through
    // itself; transparent ones do shine through each other.
    draw(items, alpha, tinted) {
      const { gl, canvas } = this;
      const ratio = window.devicePixelRatio || 1;
      const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      gl.viewport(0, 0, width, height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.uniform1f(this.at("alpha"), alpha);
      gl.uniform1f(this.at("tinted"), tinted ? 1 : 0);
      for (const item of items) {
        this.load(item);
        if (alpha < 1) gl.clear(gl.DEPTH_BUFFER_BIT);
        gl.uniform4fv(this.at("rows"), item.rows.flat());
        gl.uniform4fv(this.at("depth"), item.depth);
        gl.uniform3fv(this.at("shift"), item.shift);
        gl.uniformMatrix3fv(this.at("turn"), false, item.turn);
        gl.uniform3fv(this.at("color"), item.color);
        gl.disable(gl.BLEND);
        gl.colorMask(false, false, false, false);
        gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_SHORT, 0);
        gl.colorMask(true, true, true, true);
        gl.enable(gl.BLEND);
        gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_SHORT, 0);
      }
    }
  }

  const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const plus = (a, b, factor = 1) => a.map((value, k) => value + factor * b[k]);
  const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);

  // Through the crop's camera, as the model saw each person: pixels of the photograph to clip coordinates.
  function overPhotograph(item) {
    const [u, v, w] = item.body.pixels;
    const rows = [plus(u.map((x) => (2 / data.size[0]) * x), w, -1), plus(w, v.map((x) => (2 / data.size[1]) * x), -1), w];
    const far = 2 * deepest; // Depth is linear, from the camera to twice the farthest body.
    return { ...item, rows, depth: [0, 0, 2 / far, -1], shift: [0, 0, 0], turn: IDENTITY };
  }

  // Through a camera that turns about the bodies. Camera frame: x right, y down, z forward.
  function inSpace(item, shift, center, aspect) {
    const [yaw, pitch] = [(state.yaw * Math.PI) / 180, (state.pitch * Math.PI) / 180];
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const right = [cy, 0, sy];
    const down = [sp * sy, cp, -sp * cy];
    const forward = [-sy * cp, sp, cy * cp];
    const row = (axis, offset) => [...axis, offset - dot(axis, center)];
    const focal = 2.4;
    const depthRow = row(forward, state.distance);
    const scaled = (values, factor) => values.map((value) => value * factor);
    const rows = [scaled(row(right, 0), focal / Math.max(aspect, 1)), scaled(row(down, 0), -focal * Math.min(aspect, 1)), depthRow];
    const depth = plus(scaled(depthRow, 1 / state.distance), [0, 0, 0, 1], -1);
    const turn = [0, 1, 2].flatMap((k) => [right[k], down[k], forward[k]]);
    const distance = dot(depthRow, [...plus(item.body.hips, shift), 1]);
    return { ...item, rows, depth, shift, turn, distance };
  }

  function arrangement(items) {
    const choice = element("arrange").value;
    const first = data.people[0].bodies[Object.values(data.people[0].sets)[0].bodies[0]].hips;
    const right = [Math.cos((state.yaw * Math.PI) / 180), 0, Math.sin((state.yaw * Math.PI) / 180)];
    const columns = Math.min(items.length, Math.ceil(Math.sqrt(1.8 * items.length)));
    return items.map((item, place) => {
      if (choice === "placed") return [0, 0, 0];
      const onOneHip = plus(first, item.body.hips, -1);
      if (choice === "hips") return onOneHip;
      const [row, column] = [Math.floor(place / columns), place % columns];
      return plus(plus(onOneHip, right, 1.1 * column), [0, 1, 0], 2 * row);
    });
  }

  function draw() {
    const items = visible();
    const alpha = Number(element("opacity").value);
    const tinted = element("color").value === "spread";
    const photo = [...items].sort((a, b) => b.person.depth - a.person.depth || a.probability - b.probability);
    photoStage.draw(photo.map(overPhotograph), alpha, tinted);

    const shifts = arrangement(items);
    const places = items.map((item, k) => plus(item.body.hips, shifts[k]));
    const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
    const center = places.length ? [0, 1, 2].map((k) => middle(places.map((place) => place[k]))) : [0, 0, 3];
    const reach = Math.max(...places.map((place) => {
      const [x, y, z] = plus(place, center, -1);
      return Math.max(Math.hypot(x, z) + 0.7, Math.abs(y) + 1.1);
    }), 1.1);
    state.distance = 2.7 * reach * state.zoom;
    const canvas = element("space-bodies");
    const aspect = canvas.clientWidth / Math.max(canvas.clientHeight, 1);
    const space = items.map((item, k) => inSpace(item, shifts[k], center, aspect)).sort((a, b) => b.distance - a.distance);
    spaceStage.draw(space, element("arrange").value === "row" ? 1 : Math.max(alpha, 0.6), tinted);
    drawMarks();
  }

  // ---- Keypoints and hidden joints on the photograph ---------------------------------------------------------------

  function drawMarks() {
    const svg = element("joints");
    svg.replaceChildren();
    if (!element("marks").checked) return;
    const unit = Math.max(...data.size) / 200;
    const add = (name, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      svg.append(node);
      return node;
    };
    for (const person of data.people) {
      const known = person.keypoints.map((keypoint) => keypoint[2] > 0);
      const best = shown().find((item) => item.person === person).body;
      person.keypoints.forEach(([x, y], k) => {
        let label;
        if (known[k]) {
          label = add("circle", { cx: x, cy: y, r: 0.9 * unit, fill: "#dc1e5a", stroke: "#fff", "stroke-width": 0.3 * unit });
        } else if (data.limbs.includes(k)) {
          const p = [...best.joints[k], 1];
          const [u, v, w] = best.pixels.map((row) => dot(row, p));
          const radius = (person.spread_mm[k] / 1000) * (best.focal_px / w);
          for (const [stroke, width] of [["#fff", 0.75], ["#222", 0.4]]) {
            label = add("circle", {
              cx: u / w, cy: v / w, r: Math.max(radius, unit), fill: "none", stroke, "stroke-width": width * unit,
              "stroke-dasharray": `${1.6 * unit} ${1.2 * unit}`,
            });
          }
        }
        if (label) {
          const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
          title.textContent = `${data.joints[k]}: ${known[k] ? "seen" : "hidden"}, spread ${person.spread_mm[k].toFixed(0)} mm`;
          label.append(title);
        }
      });
    }
  }

  // ---- Lists -------------------------------------------------------------------------------------------------------

  function make(tag, attributes = {}, ...children) {
    const node = Object.assign(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  }

  const css = (color) => `rgb(${color.map((value) => Math.round(255 * value)).join(" ")})`;

  function list() {
    const parts = [];
    for (const item of shown()) {
      if (item.rank === 0 && data.people.length > 1) parts.push(make("h2", { textContent: `Person ${item.person.number}` }));
      const percent = `${(100 * item.probability).toFixed(1)} %`;
      const box = make("input", { type: "checkbox", checked: !state.off.has(item.key), ariaLabel: `Show body ${item.rank + 1}, ${percent}` });
      box.addEventListener("change", () => { box.checked ? state.off.delete(item.key) : state.off.add(item.key); draw(); });
      const chip = make("span", { className: "chip" });
      const bar = make("i");
      chip.style.background = bar.style.background = css(item.color);
      bar.style.width = `${100 * item.probability}%`;
      parts.push(make("label", { className: "body", title: `hypothesis ${item.body.index}` },
        box, chip, make("span", { className: "bar" }, bar), make("output", { textContent: percent })));
    }
    element("bodies").replaceChildren(...parts);
    element("n-shown").textContent = state.n;
    element("n").value = counts.indexOf(state.n);
    element("n").setAttribute("aria-valuetext", `${state.n} bodies`);
    element("opacity-shown").textContent = `${Math.round(100 * element("opacity").value)} %`;
    const bodies = `${state.n} ${state.n === 1 ? "body" : "bodies"}`;
    const whose = data.people.length === 1 ? "of one person" : `for each of ${data.people.length} people`;
    element("status").textContent = `${bodies} ${whose}, the most probable first`;
    element("legend").hidden = element("color").value !== "spread";
  }

  function table() {
    const head = ["joint", ...data.people.flatMap((person) => [data.people.length > 1 ? `person ${person.number}` : "", "spread, mm"])];
    const rows = data.joints.map((name, k) => make("tr", {}, make("th", { scope: "row", textContent: name.replaceAll("_", " ") }),
      ...data.people.flatMap((person) => [
        make("td", { textContent: person.keypoints[k][2] > 0 ? "seen" : "hidden" }),
        make("td", { className: "number", textContent: person.spread_mm[k].toFixed(0) }),
      ])));
    element("table").append(make("table", {}, make("tr", {}, ...head.map((textContent) => make("th", { scope: "col", textContent }))), ...rows));
  }

  // ---- Controls ----------------------------------------------------------------------------------------------------

  function update() { list(); draw(); }

  function look(name) { [state.yaw, state.pitch] = VIEWS[name]; state.zoom = 1; draw(); }

  function turn(yaw, pitch) {
    state.yaw += yaw;
    state.pitch = Math.min(89, Math.max(-89, state.pitch + pitch));
    draw();
  }

  function zoom(factor) { state.zoom = Math.min(5, Math.max(0.2, state.zoom * factor)); draw(); }

  function connect() {
    const slider = element("n");
    slider.max = counts.length - 1;
    slider.addEventListener("input", () => { state.n = counts[slider.value]; state.off.clear(); update(); });
    for (const id of ["opacity", "color", "arrange", "marks"]) element(id).addEventListener("input", update);
    for (const [name, id] of [["arrange", "arrange"], ["color", "color"], ["opacity", "opacity"]]) {
      if (hash.has(name)) element(id).value = hash.get(name);
    }
    if (hash.get("marks") === "off") element("marks").checked = false;
    if (!data.people.every((person) => person.vertex_tint)) element("color").parentElement.hidden = true;
    for (const button of element("views").querySelectorAll("button")) {
      button.addEventListener("click", () => look(button.dataset.view));
    }
    const canvas = element("space-bodies");
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) turn(-0.5 * event.movementX, 0.5 * event.movementY); });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(0.001 * event.deltaY)); }, { passive: false });
    const keys = {
      ArrowLeft: () => turn(10, 0), ArrowRight: () => turn(-10, 0), ArrowUp: () => turn(0, 10), ArrowDown: () => turn(0, -10),
      "+": () => zoom(0.9), "-": () => zoom(1.1), f: () => look("front"), s: () => look("side"), b: () => look("back"), t: () => look("top"),
    };
    canvas.addEventListener("keydown", (event) => {
      const act = keys[event.key] || keys[event.key.toLowerCase()];
      if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
    });
    new ResizeObserver(draw).observe(canvas);
  }

  let photoStage, spaceStage, deepest = 0;
  try {
    for (const person of data.people) {
      person.tint = person.vertex_tint ? bytes(person.vertex_tint) : new Uint8Array(3 * data.vertices);
      person.depth = Math.max(...person.bodies.map((body) => body.hips[2]));
      deepest = Math.max(deepest, person.depth);
    }
    photoStage = new Stage(element("photo-bodies"));
    spaceStage = new Stage(element("space-bodies"));
    connect();
    table();
    update();
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    element("status").textContent = `The bodies cannot be drawn: ${error.message}.`;
  }
})();
