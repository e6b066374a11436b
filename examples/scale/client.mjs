// A client in Node that needs no package: `node client.mjs ws://127.0.0.1:8080/v1/ws BTC-PERPETUAL`
// Node 22 has a built-in WebSocket. After a lost connection, the client continues from the last position that it received.

const [address, ...names] = process.argv.slice(2);
const limit = Number(process.env.TICKS ?? Infinity);
let ticks = 0;
let since;

function connect() {
  const socket = new WebSocket(address);
  socket.onopen = () => socket.send(JSON.stringify({ subscribe: names.map((name) => `contract:${name}`), since }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.gap) return console.error("missed messages:", message.gap.reason, message.gap.missed ?? "unknown");
    if (!message.tag) return;
    since = message.position;
    console.log(message.data.instrument_name, message.data.mark_price);
    if (++ticks === limit) process.exit(0);
  };
  socket.onclose = () => setTimeout(connect, 1000);
}

connect();
