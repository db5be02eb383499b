// A complete receiver in Node: PORT=8080 WEBHOOK_SECRETS="whsec_…" node server.mjs
import { createServer } from "node:http";
import { verify } from "./verify.mjs";

const KEYS = process.env.WEBHOOK_SECRETS.split(" "); // "whsec_…" or "whpk_…"; two while a secret is rotated
const BODY_MAX = 1 << 20; // what natshook sends at most, unless max_payload_bytes says otherwise
// In a real one a table with the id as its key (see server.py): a restart must not forget what was accepted.
const inbox = new Map();

async function receive(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > BODY_MAX) return [413, "too large"];
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks); // raw: what JSON.stringify writes again has other bytes
  let id;
  try {
    id = verify(KEYS, request.headers, body);
  } catch (error) {
    return [401, error.message];
  }
  if (!inbox.has(id)) {
    inbox.set(id, body);
    setImmediate(work, id); // after the answer
  }
  return [204, ""]; // also for an id that was there: the first answer may have been lost
}

function work(id) {
  console.log("working on", id, inbox.get(id).toString());
  inbox.set(id, Buffer.alloc(0)); // the id stays
}

createServer(async (request, response) => {
  let [status, text] = [503, "not now"];
  try {
    [status, text] = await receive(request);
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status, status === 503 ? { "retry-after": "30" } : {}).end(text);
}).listen(Number(process.env.PORT), "127.0.0.1");
