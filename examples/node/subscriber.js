// Print the tip of the index finger of every hand: all that a program needs to follow the stream.
//
//     npm ci
//     node subscriber.js [ENDPOINT] [NUMBER_OF_MESSAGES]
//
// Joints are metres: in `space` "camera" x right, y down, z forward; in "world" z up.

import { decode } from "@msgpack/msgpack";
import { Subscriber } from "zeromq";

const VERSION = 1;
const INDEX_TIP = { hand21: 8, openxr26: 10 }; // the status message has the names of all joints, in their order
const SILENCE_MS = 3000; // a tracker that runs sends its status every second, whether it sees hands or not

const endpoint = process.argv[2] ?? "tcp://127.0.0.1:5556";
let remaining = Number(process.argv[3] ?? Infinity);

function refuse(reason) {
  console.error(`error: ${reason}`);
  process.exit(1);
}

// The newest message that waits on each topic; none if nothing came for SILENCE_MS.
// (ZeroMQ's CONFLATE option would keep the newest too, but breaks messages of two parts.)
async function newestMessages(socket) {
  const newest = new Map();
  for (;;) {
    socket.receiveTimeout = newest.size ? 0 : SILENCE_MS;
    try {
      const [topic, data] = await socket.receive();
      // Times are 64-bit integers, more than a number holds exactly: they come as BigInt.
      const message = decode(data, { useBigInt64: true });
      if (message.version !== VERSION) {
        refuse(`protocol version ${message.version} arrived, this program reads version ${VERSION}`);
      }
      newest.set(topic.toString(), message);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
      return newest;
    }
  }
}

const metres = (value) => (value < 0 ? "" : "+") + value.toFixed(3);

function printHands(message) {
  const index = INDEX_TIP[message.skeleton];
  if (index === undefined) refuse(`skeleton "${message.skeleton}" arrived, this program does not know it`);
  for (const hand of message.hands) { // none if no hand is seen
    const joint = hand.joints[index];
    const state = hand.joint_tracked[index] ? "seen" : "inferred";
    const tip = Number.isNaN(joint[0]) ? "unknown" : `${joint.map(metres).join(" ")} m ${state}`;
    const which = `${message.camera} ${message.frame} ${hand.side} #${hand.id} ${hand.confidence.toFixed(2)}`;
    console.log(`${which} index tip ${tip}`);
  }
}

const socket = new Subscriber({ maxMessageSize: 1 << 20 }); // nothing that a tracker sends comes near
try {
  socket.connect(endpoint); // the tracker may start later
} catch (error) {
  refuse(`endpoint "${endpoint}": ${error.message}`);
}
socket.subscribe("hands.", "status."); // every camera; "hands.simulated" would be that one

while (remaining > 0) {
  const newest = await newestMessages(socket);
  if (!newest.size) console.error(`silence: no tracker publishes on ${endpoint}`);
  for (const [topic, message] of newest) {
    if (topic.startsWith("hands.")) {
      printHands(message);
      remaining -= 1;
    } else if (message.fps === 0) {
      console.error(`camera ${message.camera} gives no frames`);
    }
  }
}
socket.close();
