// SPDX-License-Identifier: Apache-2.0
/** PNG files both ways, against Pillow's and zlib's. */

import assert from "node:assert/strict";
import test from "node:test";
import zlib from "node:zlib";
import { fingerprint } from "../../../../scripts/label_app/page/drafts.js";
import { Mask } from "../../../../scripts/label_app/page/mask.js";
import { decode, encode } from "../../../../scripts/label_app/page/png.js";
import { randomly, where } from "./support.js";

// Pillow 13.0.0: Image.fromarray(mask).save("mask.png", optimize=True), of the mask that `shape` returns
const PILLOW = [
    "iVBORw0KGgoAAAANSUhEUgAAACsAAAAfCAAAAABb3WunAAAAe0lEQVR42u2TQQ4EIQgE2/L/TyaZ", // pragma: allowlist secret
    "0yajCGvfxxNKpUVopW9J0tgP5i+IxFKhr+isu+Wj1+3KpZFd92PRzRXOpViMfmG0FmMKGAPDmC2G", // pragma: allowlist secret
    "DTAcg2Eu6vFLisUvNF7Z0D81jNbrs1TNulGj+Q81Ke7Rmj1cyD1ascdncI/qASrDCUUeBIU5AAAA", // pragma: allowlist secret
    "AElFTkSuQmCC", // pragma: allowlist secret
].join("");
const SIGNATURE = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);

function shape() {
    const mask = new Mask(43, 31);
    const inside = (/** @type {number} */ x, /** @type {number} */ y) => Math.hypot(x - 20, y - 15) < 10;
    where(mask, (x, y) => x + y > 50, 1);
    where(mask, inside, 3);
    where(mask, (x, y) => inside(x, y) && x + y > 50, 4);
    return mask;
}

const arrayBuffer = (/** @type {Buffer} */ bytes) => new Uint8Array(bytes).buffer;

test("a file of Pillow is read", async () => {
    assert.deepEqual(await decode(arrayBuffer(Buffer.from(PILLOW, "base64"))), shape());
});

test("every filter of a row is undone", async () => {
    const random = randomly(3);
    const mask = new Mask(17, 25);
    mask.data.forEach((_, at) => (mask.data[at] = random(0, 256)));
    const value = (/** @type {number} */ x, /** @type {number} */ y) =>
        x < 0 || y < 0 ? 0 : mask.data[y * mask.width + x];
    const rows = [];
    for (let y = 0; y < mask.height; y++) {
        rows.push(y % 5);
        for (let x = 0; x < mask.width; x++) {
            const [a, b, c] = [value(x - 1, y), value(x, y - 1), value(x - 1, y - 1)];
            const nearest = [a, b, c].toSorted((s, t) => Math.abs(a + b - c - s) - Math.abs(a + b - c - t))[0];
            rows.push(value(x, y) - [0, a, b, (a + b) >> 1, nearest][y % 5]);
        }
    }
    const part = (/** @type {string} */ kind, /** @type {Buffer} */ content) => {
        const ends = [Buffer.alloc(4), Buffer.alloc(4)]; // the length, and a checksum that is not looked at
        ends[0].writeUInt32BE(content.length);
        return Buffer.concat([ends[0], Buffer.from(kind), content, ends[1]]);
    };
    const packed = zlib.deflateSync(Uint8Array.from(rows));
    const header = Buffer.from([0, 0, 0, 17, 0, 0, 0, 25, 8, 0, 0, 0, 0]);
    const two = [packed.subarray(0, 9), packed.subarray(9)].map((content) => part("IDAT", content));
    const file = Buffer.concat([SIGNATURE, part("IHDR", header), ...two, part("IEND", Buffer.alloc(0))]);
    assert.deepEqual(await decode(arrayBuffer(file)), mask);
});

test("what is written can be read by others, and by the page", async () => {
    const file = Buffer.from(await (await encode(shape())).arrayBuffer());
    assert.deepEqual(file.subarray(0, 8), SIGNATURE);
    const parts = new Map();
    for (let at = 8; at < file.length; ) {
        const end = at + 8 + file.readUInt32BE(at);
        assert.equal(file.readUInt32BE(end), zlib.crc32(file.subarray(at + 4, end)));
        parts.set(file.toString("latin1", at + 4, at + 8), file.subarray(at + 8, end));
        at = end + 4;
    }
    assert.deepEqual([...parts.keys()], ["IHDR", "IDAT", "IEND"]);
    assert.deepEqual([...parts.get("IHDR")], [0, 0, 0, 43, 0, 0, 0, 31, 8, 0, 0, 0, 0]);
    const rows = zlib.inflateSync(parts.get("IDAT"));
    const { data, width, height } = shape();
    const expected = Array.from({ length: height }, (_, y) => [0, ...data.subarray(y * width, (y + 1) * width)]);
    assert.deepEqual([...rows], expected.flat());
    assert.deepEqual(await decode(arrayBuffer(file)), shape());
});

test("files that are no masks are refused", async () => {
    const colours = Buffer.from(PILLOW, "base64");
    colours[25] = 2;
    for (const file of [Buffer.from("<html>"), Buffer.alloc(60), colours]) {
        await assert.rejects(decode(arrayBuffer(file)), /not a PNG with 8 bits of grey/);
    }
});

test("images that differ in one byte have other fingerprints", () => {
    const bytes = new Uint8Array(5000);
    const found = Array.from({ length: 200 }, (_, at) => fingerprint(bytes.with(at * 25, 1).buffer));
    assert.equal(new Set(found).size, 200);
});
