// Registers a webhook with natshook, by one NATS request. Run it as often as you like: it changes what differs.
import process from "node:process";
import { connect } from "@nats-io/transport-node";

const target = {
  name: "orders",
  subjects: ["orders.>"],
  url: process.env.WEBHOOK_URL,
  signing: { secrets: [process.env.WEBHOOK_SECRET] },
};

const connection = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
const answer = await connection.request("natshook.targets.put", JSON.stringify({ target }), { timeout: 5000 });
await connection.close();
const said = answer.json();
if (answer.headers?.has("Nats-Service-Error-Code")) {
  for (const { key, error } of said.errors ?? []) console.error(`${key}: ${error}`);
  console.error(`${said.code}: ${said.error}`);
  process.exitCode = 1;
} else {
  console.log(`${said.name}: registered, revision ${said.revision}`);
}
