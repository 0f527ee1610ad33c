// SPDX-License-Identifier: Apache-2.0
/** Connects the parts of the page and its commands. */

import { getState } from "./api.js";
import { Carrying } from "./carrying.js";
import { ClassChoice } from "./classes.js";
import { Display, settings } from "./display.js";
import { find, part } from "./dom.js";
import { Drafts } from "./drafts.js";
import { Editor } from "./editor.js";
import { ImageList } from "./images.js";
import { bindCommands, writeHelp } from "./keys.js";
import { Loader } from "./loader.js";
import { Opening } from "./opening.js";
import { Order } from "./order.js";
import { Overlay } from "./overlay.js";
import { Saving } from "./saving.js";
import { State } from "./state.js";
import { said, say, sayError } from "./status.js";
import { Tools } from "./tools.js";
import { TrainingPanel } from "./training.js";
import { View } from "./view.js";

const OPEN = "open"; // under which the browser keeps the id of the open image

const state = new State();
const view = new View(part("#stage"), part("#layers"));
const overlay = new Overlay(find("#mask", HTMLCanvasElement));
const editor = new Editor();
const list = new ImageList(part("#left"));
const loader = new Loader();
const tools = new Tools(part("#stage"), view, editor);
const classes = new ClassChoice(part("#classes"));
const training = new TrainingPanel(part("#training"));
const opening = new Opening(state, { view, editor, tools, list, loader });
const order = new Order(state, { list, loader, opening });
const saving = new Saving(state, { editor, tools, list, loader, opening });
const carrying = new Carrying(state, { editor, list, loader });
const display = new Display(state, { view, overlay, editor, tools, list, order });

let refreshes = 0;

async function refresh() {
    const ticket = ++refreshes;
    const answer = await getState();
    if (ticket === refreshes) {
        list.set(answer.images); // an older answer could be of the time before the last change
        training.setLabelled(answer.labelled);
    }
    return answer;
}

async function afterTraining() {
    loader.forgetPredictions();
    try {
        await refresh();
    } catch (error) {
        sayError(error);
        return;
    }
    const { id } = state.open;
    if (id !== null && list.state(id) !== "corrected" && editor.untouched && !tools.drawsPolygon) {
        const { sentence, kind } = said; // how the training ended
        await opening.open(id);
        if (said.kind === "info") {
            say(sentence, kind);
        }
    }
}

// the size of larger brushes changes by larger steps
const resize = (/** @type {number} */ sign) =>
    tools.set({ size: tools.size + sign * 2 * Math.max(1, Math.round(tools.size / 20)) });

/** @type {Object<string, (event: Event) => void>} */
const actions = {
    brush: () => tools.set({ tool: "brush" }),
    eraser: () => tools.set({ tool: "eraser" }),
    polygon: () => tools.set({ tool: "polygon" }),
    curve: () => tools.set({ tool: "curve" }),
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
    outline: () => display.switchOutline(),
    hide: () => state.hide(!state.hidden),
    fainter: () => display.setOpacity(settings.opacity - 10),
    stronger: () => display.setOpacity(settings.opacity + 10),
    save: () => saving.save(),
    save_next: async ({ type }) => {
        const { id } = state.open;
        const closed = type === "keydown" && tools.closePolygon(); // Enter closes a polygon first; the button saves it
        if (!closed && (await saving.save())) {
            await order.next(`Saved ${id}.`);
        }
    },
    next: () => order.next(),
    back: () => order.back(),
    carry: () => carrying.carry(),
    withdraw: () => saving.withdraw(),
    skip: () => order.skip(),
    predict: () => opening.usePrediction(),
    clear: () => editor.clear(),
    previous_in_list: () => order.neighbour(-1),
    next_in_list: () => order.neighbour(1),
    help: () => find("#help", HTMLDialogElement).showModal(),
};

function connect() {
    state.addEventListener("labels", () => refresh().then(() => display.showAll(), () => {})); // an error shows at the next call
    editor.addEventListener("step", () => {
        if (editor.unsaved && said.kind === "ok") {
            say(""); // "Saved" is not true any more
        }
    });
    opening.addEventListener("shown", () => {
        if (state.open.source === "prediction" && !training.running) {
            order.prefetch();
        }
    });
    state.addEventListener("change", () => state.open.id !== null && sessionStorage.setItem(OPEN, state.open.id));
    list.addEventListener("choose", (event) => opening.open(/** @type {CustomEvent<string>} */ (event).detail));
    classes.addEventListener("choose", (event) => {
        tools.set({ value: /** @type {CustomEvent<number>} */ (event).detail });
    });
    training.addEventListener("finished", afterTraining);
    const [size, opacity] = ["#size", "#opacity"].map((selector) => find(selector, HTMLInputElement));
    size.addEventListener("input", () => tools.set({ size: size.valueAsNumber }));
    opacity.addEventListener("input", () => display.setOpacity(opacity.valueAsNumber));
    for (const slider of [size, opacity]) {
        slider.addEventListener("pointerup", () => slider.blur());
    }
    bindCommands(actions, (value) => classes.choose(value), (held) => tools.holdHand(held));
    writeHelp(part("#help_keys"));
    addEventListener("beforeunload", (event) => {
        if (tools.drawsPolygon || (editor.unsaved && !opening.drafts)) {
            event.preventDefault(); // these strokes are stored nowhere else
        }
    });
}

async function openDrafts() {
    try {
        opening.drafts = await Drafts.open();
        (await opening.drafts.ids()).forEach((id) => list.mark(id, { draft: true }));
    } catch {
        say("This browser does not keep unsaved strokes (its storage is off). Save before you leave.", "error");
    }
}

/** @param {string|null} last the image that was open before the page was loaded again */
async function openFirst(last) {
    if (last !== null && list.state(last) !== undefined) {
        await opening.open(last);
        return;
    }
    const { first } = list;
    if (first === undefined) {
        opening.notify("The folder holds no images.");
        return;
    }
    await order.next();
    if (state.open.id === null) {
        await opening.open(first);
    }
}

async function start() {
    connect();
    tools.set({ size: settings.size });
    const last = sessionStorage.getItem(OPEN);
    let answer;
    try {
        answer = await refresh();
    } catch (error) {
        sayError(error);
        return;
    }
    part("#model").textContent = answer.model;
    if (answer.volumes) {
        opening.notify(`These images are volumes. Correct them in 3D Slicer, with ${location.href} as server.`);
        return;
    }
    state.withdraws = answer.withdraws;
    state.classes = answer.classes.map(({ name }) => name);
    overlay.setClasses(answer.classes);
    classes.set(answer.classes);
    display.showAll();
    training.set(answer.training, answer.max_epochs);
    order.markSkipped();
    await openDrafts();
    await openFirst(last);
}

await start();
document.body.ariaBusy = "false";
