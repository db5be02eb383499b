// Verifies natshook's webhooks (Standard Webhooks 1.0, v1 and v1a) with Node's standard library alone.
import { createHmac, createPublicKey, timingSafeEqual, verify as verifyEd25519 } from "node:crypto";

const TOLERANCE = 300; // seconds by which the timestamp may be off

// Returns the id of the webhook whose raw `body` (a Buffer) is signed with one of `keys`: "whsec_…" (v1) or the
// public "whpk_…" (v1a). Throws for anything else. `headers` is what node:http calls request.headers.
export function verify(keys, headers, body, now = Date.now() / 1000) {
  const [id, timestamp, signatures] = ["id", "timestamp", "signature"].map((part) => headers[`webhook-${part}`]);
  if (!id || !signatures || !/^\d{1,12}$/.test(timestamp)) throw new Error("a webhook header is missing or unreadable");
  if (Math.abs(now - Number(timestamp)) > TOLERANCE) throw new Error("the timestamp is too far from now");
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  for (const entry of signatures.split(" ")) {
    const [version, text = ""] = entry.split(",");
    const signature = Buffer.from(text, "base64");
    if (keys.some((key) => matches(key, version, signature, signed))) return id;
  }
  throw new Error("no signature matches");
}

function matches(key, version, signature, signed) {
  const bytes = Buffer.from(key.slice(key.indexOf("_") + 1), "base64");
  if (bytes.length < 24) return false; // an empty secret must not let anybody in
  if (version === "v1" && key.startsWith("whsec_")) {
    const expected = createHmac("sha256", bytes).update(signed).digest();
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  }
  if (version === "v1a" && key.startsWith("whpk_")) {
    const jwk = { kty: "OKP", crv: "Ed25519", x: bytes.toString("base64url") };
    return verifyEd25519(null, signed, createPublicKey({ key: jwk, format: "jwk" }), signature);
  }
  return false;
}
