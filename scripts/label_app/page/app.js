// SPDX-License-Identifier: Apache-2.0
/** Connects the parts of the page, its commands, and the display of each change. */

import { getState } from "./api.js";
import { ClassChoice } from "./classes.js";
import { Drafts } from "./drafts.js";
import { Editor } from "./editor.js";
import { ImageList } from "./images.js";
import { bindCommands, writeHelp } from "./keys.js";
import { Loader } from "./loader.js";
import { union } from "./mask.js";
import { Overlay } from "./overlay.js";
import { say, sayError } from "./status.js";
import { Tools } from "./tools.js";
import { TrainingPanel } from "./training.js";
import { View } from "./view.js";
import { Workspace } from "./workspace.js";

const SETTINGS = "label settings";
const OUTLINE = 2; // width in screen pixels

const part = (selector) => document.querySelector(selector);
const settings = { size: 15, opacity: 45, outline: false, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
const stage = part("#stage");
const view = new View(stage, part("#layers"));
const overlay = new Overlay(part("#mask"));
const editor = new Editor();
const tools = new Tools(stage, view, editor);
const list = new ImageList(part("#left"));
const loader = new Loader();
const classes = new ClassChoice(part("#classes"));
const training = new TrainingPanel(part("#training"));
const workspace = new Workspace(stage, { view, editor, tools, list, loader });
let hidden = false;
let shownId = null; // the image for which the mask was shown or hidden
let withdraws = false; // whether the server can withdraw saved labels

function keepSettings(changes) {
    Object.assign(settings, changes);
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
}

function button(command, { disabled, pressed }) {
    const element = part(`[data-command="${command}"]`);
    if (disabled !== undefined) {
        element.disabled = disabled;
    }
    if (pressed !== undefined) {
        element.setAttribute("aria-pressed", String(pressed));
    }
}

/** Collect all changes, and paint them together before the next frame. */
const paint = (() => {
    let dirty = null;
    return (rect) => {
        if (!dirty) {
            requestAnimationFrame(() => {
                overlay.paint(dirty);
                dirty = null;
            });
        }
        dirty = union(dirty, rect);
    };
})();

/** Keep outlines equally wide on the screen at any zoom. */
function fitOutline() {
    const width = settings.outline ? Math.min(Math.max(Math.round(OUTLINE / view.zoom), 1), 12) : 0;
    if (width !== overlay.outline) {
        overlay.outline = width;
        if (overlay.mask) {
            paint(overlay.mask.rect);
        }
    }
}

function showMask() {
    // thin lines need more opacity
    const opacity = Math.min((settings.opacity / 100) * (settings.outline ? 2 : 1), 1);
    part("#mask").style.opacity = hidden ? 0 : opacity;
    part("#opacity").value = settings.opacity;
    part("#opacity_shown").textContent = `${settings.opacity} %`;
    button("outline", { pressed: settings.outline });
    button("hide", { pressed: hidden });
    fitOutline();
}

function unhide() {
    if (hidden) {
        hidden = false;
        showMask();
    }
}

function setOpacity(percent) {
    hidden = false;
    keepSettings({ opacity: Math.min(Math.max(percent, 0), 100) });
    showMask();
}

function showImage() {
    const { id, size } = workspace;
    const state = id === null ? "" : (list.state(id) ?? "");
    const unsaved = editor.unsaved ? " · unsaved strokes" : "";
    const nothing = workspace.foundNothing ? ` · ${workspace.nothing.toLowerCase()}` : "";
    part("#open_note").textContent = workspace.note;
    part("#open_note").hidden = workspace.note === "";
    part("#open_name").textContent = id ?? "–";
    part("#open_name").title = id ?? "";
    const shape = size ? `${size.width} × ${size.height} · ` : "";
    part("#open_state").textContent = `${shape}${state}${nothing}${unsaved}` || "\u00a0";
    stage.dataset.unsaved = String(editor.unsaved);
    const disabled = editor.mask === null;
    for (const command of ["save", "save_next", "predict", "clear"]) {
        button(command, { disabled });
    }
    button("skip", { disabled: id === null });
    button("withdraw", { disabled: state !== "corrected" || !withdraws });
    button("back", { disabled: !workspace.canGoBack });
    button("undo", { disabled: !editor.canUndo });
    button("redo", { disabled: !editor.canRedo });
}

function showTools() {
    for (const tool of ["brush", "eraser", "polygon", "pan"]) {
        button(tool, { pressed: tools.tool === tool });
    }
    part("#size").value = tools.size;
    part("#size_shown").textContent = `${tools.size} px`;
    keepSettings({ size: tools.size });
}

async function refresh() {
    const state = await getState();
    list.set(state.images);
    training.setLabelled(state.labelled);
    return state;
}

async function afterTraining() {
    loader.forgetPredictions();
    try {
        await refresh();
    } catch (error) {
        sayError(error);
        return;
    }
    const predicted = workspace.id !== null && list.state(workspace.id) !== "corrected";
    if (predicted && editor.untouched && !tools.drawsPolygon) {
        const bar = part("#status");
        const news = [bar.textContent, bar.dataset.kind]; // how the training ended
        await workspace.open(workspace.id);
        if (bar.dataset.kind === "info") {
            say(...news);
        }
    }
}

const openNeighbour = (step) => {
    const id = list.neighbour(step);
    if (id !== undefined) {
        workspace.open(id);
    }
};
// the size of larger brushes changes by larger steps
const resize = (sign) => tools.set({ size: tools.size + sign * 2 * Math.max(1, Math.round(tools.size / 20)) });

const actions = {
    brush: () => tools.set({ tool: "brush" }),
    eraser: () => tools.set({ tool: "eraser" }),
    polygon: () => tools.set({ tool: "polygon" }),
    pan: () => tools.set({ tool: "pan" }),
    smaller: () => resize(-1),
    larger: () => resize(1),
    undo: () => editor.undo(),
    redo: () => editor.redo(),
    corner_back: () => tools.polygon.back(),
    erase_polygon: () => tools.closePolygon(true),
    cancel: () => tools.cancel(),
    zoom_in: () => view.zoomBy(1.25),
    zoom_out: () => view.zoomBy(0.8),
    fit: () => view.fit(),
    actual_size: () => view.actualSize(),
    outline: () => {
        keepSettings({ outline: !settings.outline });
        showMask();
    },
    hide: () => {
        hidden = !hidden;
        showMask();
    },
    fainter: () => setOpacity(settings.opacity - 10),
    stronger: () => setOpacity(settings.opacity + 10),
    save: () => workspace.save(),
    save_next: async ({ type }) => {
        const id = workspace.id;
        const closed = type === "keydown" && tools.closePolygon(); // Enter closes a polygon first; the button saves it
        if (!closed && (await workspace.save())) {
            await workspace.next(`Saved ${id}.`);
        }
    },
    next: () => workspace.next(),
    back: () => workspace.back(),
    withdraw: () => workspace.withdraw(),
    skip: () => workspace.skip(),
    predict: () => workspace.usePrediction(),
    clear: () => workspace.clear(),
    previous_in_list: () => openNeighbour(-1),
    next_in_list: () => openNeighbour(1),
    help: () => part("#help").showModal(),
};

function connect() {
    editor.addEventListener("paint", (event) => {
        paint(event.detail);
        unhide(); // a hidden mask must not be changed
    });
    editor.addEventListener("step", () => {
        if (overlay.mask !== editor.mask) {
            overlay.setMask(editor.mask);
        }
        if (editor.unsaved && part("#status").dataset.kind === "ok") {
            say(""); // "Saved" is not true any more
        }
        showImage();
    });
    view.addEventListener("change", () => {
        part("#zoom").textContent = `${Math.round(view.zoom * 100)} %`;
        Object.assign(stage.dataset, { scale: view.scale, x: view.x, y: view.y });
        fitOutline();
    });
    tools.addEventListener("change", showTools);
    tools.addEventListener("hover", ({ detail: place }) => {
        const { size } = workspace;
        const inside = place && size && place.x >= 0 && place.y >= 0 && place.x < size.width && place.y < size.height;
        part("#place").textContent = inside ? `${place.x}, ${place.y}` : "";
    });
    list.addEventListener("choose", (event) => workspace.open(event.detail));
    classes.addEventListener("choose", (event) => tools.set({ value: event.detail }));
    workspace.addEventListener("open", () => {
        if (workspace.id !== shownId) {
            shownId = workspace.id;
            unhide();
        }
        showImage();
        if (stage.dataset.mask === "prediction" && !training.running) {
            workspace.prefetch();
        }
    });
    workspace.addEventListener("labels", () => refresh().catch(() => {})); // an error shows at the next call
    training.addEventListener("finished", afterTraining);
    part("#size").addEventListener("input", (event) => tools.set({ size: Number(event.target.value) }));
    part("#opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
    for (const slider of document.querySelectorAll("[type=range]")) {
        slider.addEventListener("pointerup", () => slider.blur());
    }
    bindCommands(actions, (value) => classes.choose(value), (held) => tools.holdHand(held));
    writeHelp(part("#help_keys"));
    addEventListener("beforeunload", (event) => {
        if (tools.drawsPolygon || (editor.unsaved && !workspace.drafts)) {
            event.preventDefault(); // these strokes are stored nowhere else
        }
    });
}

async function openDrafts() {
    try {
        workspace.drafts = await Drafts.open();
        (await workspace.drafts.ids()).forEach((id) => list.mark(id, { draft: true }));
    } catch {
        say("This browser does not keep unsaved strokes (its storage is off). Save before you leave.", "error");
    }
}

async function start() {
    connect();
    tools.set({ size: settings.size });
    let state;
    try {
        state = await refresh();
    } catch (error) {
        sayError(error);
        return;
    }
    part("#model").textContent = state.model;
    if (state.volumes) {
        workspace.notify(`These images are volumes. Correct them in 3D Slicer, with ${location.href} as server.`);
        return;
    }
    withdraws = state.withdraws;
    workspace.classes = state.classes.map(({ name }) => name);
    overlay.setClasses(state.classes);
    classes.set(state.classes);
    showMask();
    training.set(state.training, state.max_epochs);
    workspace.markSkipped();
    await openDrafts();
    const last = sessionStorage.getItem("open");
    if (list.state(last) !== undefined) {
        await workspace.open(last);
    } else if (state.images.length) {
        await workspace.next();
        if (workspace.id === null) {
            await workspace.open(state.images[0].id);
        }
    } else {
        workspace.notify("The folder holds no images.");
    }
}

workspace.addEventListener("open", () => sessionStorage.setItem("open", workspace.id));
await start();
document.body.dataset.ready = "true";
