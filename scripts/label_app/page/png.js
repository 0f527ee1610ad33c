// SPDX-License-Identifier: Apache-2.0
/**
 * Masks as PNG files with one byte per pixel.
 *
 * No canvas is used, since browsers that hinder tracking change the values that are read from a canvas.
 */

import { Mask } from "./mask.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
    for (let bit = 0; bit < 8; bit++) {
        value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
    }
    return value;
});

/**
 * @param {Blob} bytes
 * @param {CompressionStream|DecompressionStream} stream
 */
async function throughStream(bytes, stream) {
    const answer = new Response(bytes.stream().pipeThrough(stream));
    return new Uint8Array(await answer.arrayBuffer());
}

/**
 * @param {string} kind
 * @param {Uint8Array} content
 */
function chunk(kind, content) {
    const bytes = new Uint8Array(content.length + 12);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, content.length);
    bytes.set(new TextEncoder().encode(kind), 4);
    bytes.set(content, 8);
    let crc = 0xffffffff;
    for (let at = 4; at < bytes.length - 4; at++) {
        crc = CRC[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
    }
    view.setUint32(bytes.length - 4, ~crc >>> 0);
    return bytes;
}

/**
 * @param {Mask} mask
 * @returns {Promise<Blob>} PNG, 8 bits of grey: the class indices
 */
export async function encode(mask) {
    const header = new Uint8Array(13);
    const view = new DataView(header.buffer);
    view.setUint32(0, mask.width);
    view.setUint32(4, mask.height);
    header[8] = 8; // bits; all else 0: grey, deflate, filters by row, not interlaced
    const rows = new Uint8Array((mask.width + 1) * mask.height);
    for (let y = 0; y < mask.height; y++) {
        rows.set(mask.data.subarray(y * mask.width, (y + 1) * mask.width), y * (mask.width + 1) + 1);
    }
    const content = await throughStream(new Blob([rows]), new CompressionStream("deflate"));
    const parts = [new Uint8Array(SIGNATURE), chunk("IHDR", header), chunk("IDAT", content)];
    return new Blob([...parts, chunk("IEND", new Uint8Array())], { type: "image/png" });
}

/** @param {Uint8Array<ArrayBuffer>} bytes */
function chunksOf(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const content = [];
    let header = null;
    for (let at = SIGNATURE.length; at + 12 <= bytes.length; ) {
        const length = view.getUint32(at);
        const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
        const part = bytes.subarray(at + 8, at + 8 + length);
        if (kind === "IHDR") {
            header = { width: view.getUint32(at + 8), height: view.getUint32(at + 12), form: part.subarray(8, 13) };
        } else if (kind === "IDAT") {
            content.push(part);
        }
        at += length + 12;
    }
    return { header, content };
}

/**
 * Undo the filter of one row in place.
 *
 * @param {number} filter its number
 * @param {Uint8Array} row
 * @param {Uint8Array} above the row before
 */
function unfilter(filter, row, above) {
    for (let x = 0; x < row.length; x++) {
        const left = x ? row[x - 1] : 0;
        const up = above[x];
        if (filter === 1) {
            row[x] += left;
        } else if (filter === 2) {
            row[x] += up;
        } else if (filter === 3) {
            row[x] += (left + up) >> 1;
        } else if (filter === 4) {
            const corner = x ? above[x - 1] : 0;
            const toLeft = Math.abs(up - corner);
            const toUp = Math.abs(left - corner);
            const toCorner = Math.abs(left + up - 2 * corner);
            row[x] += toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
        }
    }
}

/**
 * @param {ArrayBuffer} file PNG, 8 bits of grey, not interlaced
 * @returns {Promise<Mask>}
 */
export async function decode(file) {
    const bytes = new Uint8Array(file);
    const signed = SIGNATURE.every((value, at) => bytes[at] === value);
    const { header, content } = signed ? chunksOf(bytes) : { header: null, content: [] };
    if (!header || header.form.join() !== "8,0,0,0,0") {
        throw new Error("The server sent a mask that is not a PNG with 8 bits of grey.");
    }
    const { width, height } = header;
    const rows = await throughStream(new Blob(content), new DecompressionStream("deflate"));
    const mask = new Mask(width, height);
    /** @type {Uint8Array} */
    let above = new Uint8Array(width);
    for (let y = 0; y < height; y++) {
        const row = mask.data.subarray(y * width, (y + 1) * width);
        row.set(rows.subarray(y * (width + 1) + 1, (y + 1) * (width + 1)));
        const filter = rows[y * (width + 1)];
        if (filter) {
            unfilter(filter, row, above);
        }
        above = row;
    }
    return mask;
}
