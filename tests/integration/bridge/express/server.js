// An application as its README shows it; only the patience of its Socket.IO is shorter, so that a test can outlast it.
const http = require('http');
const express = require('express');
const monitor = require('express-status-monitor');
const socketIo = require('socket.io');

const app = express();
const server = http.createServer(app);
const websocket = socketIo(server, { pingInterval: 4000, pingTimeout: 3000 });
app.use(monitor({ spans: [{ interval: 0.2, retention: 60 }], websocket }));
app.get('/', (request, response) => response.send('hello'));
server.listen(0, '127.0.0.1', () => console.log('listening on', server.address().port));
