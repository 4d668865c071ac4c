// The named peer: node's `ws`, sending each message to each connection, the way its documentation broadcasts.
// Prints its port; for each line "MESSAGES SIZE [SENT]" on stdin sends and prints "sent CPU_US" once everything was written.
import { createRequire } from "node:module";
import readline from "node:readline";
const { WebSocketServer } = createRequire(process.argv[2] + "/")("ws");

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 1024 });
server.on("listening", () => console.log(server.address().port));

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [messages, size, sent] = line.split(" ");
  const before = process.cpuUsage();
  for (let i = 0; i < messages; i++) {
    const text = `${i} "sent": ${sent ?? 0}`.padEnd(Number(size), "x"); // each is another one
    for (const client of server.clients) client.send(text);
    if (i % 4 === 3) await drained(); // a few rounds in flight, as a server under load has
  }
  await drained();
  const used = process.cpuUsage(before);
  console.log(`sent ${used.user + used.system}`);
});

async function drained() {
  for (const client of server.clients)
    while (client.bufferedAmount) await new Promise((resolve) => setImmediate(resolve));
  await new Promise((resolve) => setImmediate(resolve));
}
process.stdin.on("end", () => process.exit(0));
