// SPDX-License-Identifier: Apache-2.0
/** The commands of the page: one table for buttons, keys, tooltips and help. */

/**
 * Groups of [command, keys, what it does]. The first key is the one that tooltips show.
 *
 * @type {Object<string, [string, string[], string][]>}
 */
const TABLE = {
    Draw: [
        ["brush", ["b"], "Brush; right button erases"],
        ["eraser", ["e"], "Eraser"],
        ["polygon", ["p"], "Polygon: click corners or drag; Enter or the first corner closes it"],
        ["curve", ["c"], "Curve: drag between two places to redraw the outline there; right button only erases"],
        ["pan", ["h"], "Pan; also middle button, or Space held"],
        ["smaller", ["[", "<"], "Smaller brush"],
        ["larger", ["]", ">"], "Larger brush"],
        ["undo", ["Ctrl+z"], "Undo"],
        ["redo", ["Ctrl+Shift+z", "Ctrl+y"], "Redo"],
        ["corner_back", ["Backspace"], "Take back the polygon's last corner"],
        ["erase_polygon", ["Shift+Enter"], "Erase inside the polygon"],
        ["cancel", ["Escape"], "Give up the polygon or stroke"],
    ],
    View: [
        ["zoom_in", ["+", "="], "Zoom in; also the wheel"],
        ["zoom_out", ["-"], "Zoom out"],
        ["fit", ["0"], "Fit the image"],
        ["actual_size", ["z"], "100 %: one pixel of the screen for one of the image"],
        ["outline", ["o"], "Outline or fill"],
        ["hide", ["m"], "Hide or show the mask"],
        ["fainter", [","], "Fainter mask"],
        ["stronger", ["."], "Stronger mask"],
    ],
    Images: [
        ["save", ["s", "Ctrl+s"], "Save the mask"],
        ["save_next", ["Enter"], "Save, then the next most uncertain image"],
        ["next", ["n"], "Next most uncertain image"],
        ["back", ["ArrowLeft"], "Back to the image that was open before"],
        ["skip", ["k"], "Skip: do not offer this image again"],
        ["predict", ["r"], "Use the prediction again (undo brings strokes back)"],
        ["clear", ["Delete"], "Remove the whole mask (undo brings it back)"],
        ["carry", ["f"], "Carry the saved mask over to the next frames of the sequence; negative: to those before"],
        ["withdraw", ["w"], "Not corrected after all: withdraw the saved mask"],
        ["previous_in_list", ["ArrowUp"], "Previous image in the list"],
        ["next_in_list", ["ArrowDown"], "Next image in the list"],
        ["help", ["?"], "This help"],
    ],
};
/** @type {Object<string, string>} */
const SHOWN = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", Escape: "Esc", "-": "−" };
/** @type {Map<string, {keys: string[], text: string}>} */
const COMMANDS = new Map();
/** @type {Map<string, string>} */
const KEYS = new Map();
for (const [command, keys, text] of Object.values(TABLE).flat()) {
    COMMANDS.set(command, { keys, text });
    keys.forEach((key) => KEYS.set(key, command));
}

const shown = (/** @type {string} */ key) =>
    key
        .split(/\+(?=.)/)
        .map((part) => SHOWN[part] ?? (part.length === 1 ? part.toUpperCase() : part))
        .join("+");

/**
 * The name of a pressed key as in the table.
 *
 * @param {KeyboardEvent} event
 */
function nameOf(event) {
    const control = event.ctrlKey || event.metaKey;
    // "?" and "+" need Shift on many keyboards, so Shift counts only for letters with Ctrl and for Enter
    const shift = event.shiftKey && (control || event.key === "Enter");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    return `${control ? "Ctrl+" : ""}${shift ? "Shift+" : ""}${key}`;
}

/** @param {Element|null} target */
function typing(target) {
    return target?.matches("input:not([type=range], [type=radio]), select, textarea");
}

/**
 * Let keys and buttons (`data-command`) run commands.
 *
 * @param {Object<string, (event: Event) => void>} actions by command; each gets the click or keydown
 * @param {(value: number) => void} chooseClass for 1 to 9
 * @param {(held: boolean) => void} holdHand Space pressed or released
 */
export function bindCommands(actions, chooseClass, holdHand) {
    for (const [command, { keys, text }] of COMMANDS) {
        const button = document.querySelector(`[data-command="${command}"]`);
        if (!(button instanceof HTMLElement)) {
            continue; // it has a key alone
        }
        button.title = `${text} (${shown(keys[0])})`;
        button.setAttribute("aria-keyshortcuts", keys.map((key) => key.replace("Ctrl", "Control")).join(" "));
        if (!button.textContent.trim()) {
            button.setAttribute("aria-label", text);
        }
        button.addEventListener("click", (event) => {
            if (event.detail) {
                button.blur(); // after a mouse click, Space and Enter are for the image again
            }
            actions[command](event);
        });
    }
    document.addEventListener("keydown", (event) => {
        const target = event.target instanceof Element ? event.target : null;
        if (event.altKey || typing(target) || document.querySelector("dialog[open]")) {
            return;
        }
        if (target?.closest("button, a, summary, [type=radio]") && [" ", "Enter"].includes(event.key)) {
            return;
        }
        if (target?.matches("input") && event.key.startsWith("Arrow")) {
            return;
        }
        const name = nameOf(event);
        const command = KEYS.get(name);
        if (name === " ") {
            event.preventDefault();
            holdHand(true);
        } else if (command !== undefined) {
            event.preventDefault();
            actions[command](event);
        } else if (/^[1-9]$/.test(name)) {
            chooseClass(Number(name));
        }
    });
    document.addEventListener("keyup", (event) => event.key === " " && holdHand(false));
    window.addEventListener("blur", () => holdHand(false));
}

/**
 * Fill the help panel.
 *
 * @param {HTMLElement} root
 */
export function writeHelp(root) {
    for (const [title, rows] of Object.entries(TABLE)) {
        const section = document.createElement("section");
        const heading = document.createElement("h3");
        heading.textContent = title;
        const list = document.createElement("dl");
        const all = title === "Draw" ? [...rows, /** @type {const} */ (["", ["1", "9"], "Choose the class"])] : rows;
        for (const [command, keys, text] of all) {
            const term = document.createElement("dt");
            keys.forEach((key, index) => {
                const mark = document.createElement("kbd");
                mark.textContent = shown(key);
                term.append(...(index ? [command ? " " : " … "] : []), mark);
            });
            const meaning = document.createElement("dd");
            meaning.textContent = text;
            list.append(term, meaning);
        }
        section.append(heading, list);
        root.append(section);
    }
}
