/* Many WebSocket clients in one process: joins, counts frames, measures delays. Fast enough not to be what is measured.
 *
 *   receiver PORT CONNECTIONS JOIN_FRAMES PATH [JOINS]
 *
 * Opens the connections, sends on each its line of the file JOINS, waits for JOIN_FRAMES frames on each and prints
 * "ready". Then, for each line "N" on stdin, prints "counting", waits for N more frames and
 * prints "done END_NS FRAMES BYTES CPU_US P50_US P90_US P99_US MAX_US": END_NS is CLOCK_MONOTONIC at the last frame; the
 * delays are those of frames that carry `"sent": NANOSECONDS` of the same clock. "short ..." says that frames stopped
 * coming for 15 seconds, "closed ..." that a connection ended. Each connection is pinged every 20 seconds meanwhile. Server frames are unmasked and whole (RFC 6455).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { SILENCE_MS = 15000, PING_MS = 20000, FIRST_BUFFER = 1 << 18, MOST_DELAYS = 8 << 20 };

struct client { int fd; long frames; size_t have, size; unsigned char *buffer; };

static struct client *clients;
static int count, poller, ended;
static long frames, bytes, delay_count;
static int64_t *delays, last_frame_ns;

static void fail(const char *what) { perror(what); exit(1); }

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long cpu_us(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000L + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
}

static void send_all(int fd, const void *data, size_t size) {
  for (const char *p = data; size;) {
    ssize_t n = write(fd, p, size);
    if (n < 0) fail("write");
    p += n; size -= n;
  }
}

static void send_text(int fd, const char *text) { /* masked with zeros, which RFC 6455 allows to be any four bytes */
  size_t size = strlen(text);
  unsigned char head[8] = {0x81, 0x80 | (size < 126 ? size : 126)};
  size_t at = 2;
  if (size >= 126) { head[2] = size >> 8; head[3] = size & 255; at = 4; }
  memset(head + at, 0, 4);
  send_all(fd, head, at + 4);
  send_all(fd, text, size);
}

static void open_client(struct client *c, int port, const char *path) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  char request[8192], answer[2];
  int on = 1;
  if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) fail("socket");
  if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0) fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  snprintf(request, sizeof request,
           "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", path);
  send_all(c->fd, request, strlen(request));
  for (int matched = 0; matched < 4;) { /* to the empty line; nothing is sent to us before we join */
    if (read(c->fd, answer, 1) != 1) fail("handshake");
    matched = answer[0] == "\r\n\r\n"[matched] ? matched + 1 : answer[0] == '\r';
  }
  c->buffer = malloc(c->size = FIRST_BUFFER);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}

static void pong(int fd, const unsigned char *payload, size_t size) { /* some servers wait for it */
  unsigned char frame[6 + 125] = {0x8a, 0x80 | size};
  memcpy(frame + 6, payload, size);
  send_all(fd, frame, 6 + size);
}

static void take(struct client *c, const unsigned char *payload, size_t size, int opcode) {
  if (opcode == 9 && size < 126) pong(c->fd, payload, size);
  if (opcode > 2) return; /* pongs, closing */
  c->frames++; frames++; bytes += size;
  if (delay_count == MOST_DELAYS) return;
  const char *sent = memmem(payload, size, "\"sent\": ", 8);
  if (sent) delays[delay_count++] = last_frame_ns - strtoll(sent + 8, NULL, 10);
}

static void receive(struct client *c) {
  if (c->have == c->size && !(c->buffer = realloc(c->buffer, c->size *= 2))) fail("realloc");
  ssize_t n = read(c->fd, c->buffer + c->have, c->size - c->have);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) { ended++; epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL); return; }
  last_frame_ns = now_ns();
  c->have += n;
  size_t at = 0;
  while (c->have - at >= 2) {
    const unsigned char *f = c->buffer + at;
    size_t head = 2, size = f[1] & 127;
    if (size == 126) head = 4; else if (size == 127) head = 10;
    if (c->have - at < head) break;
    if (head > 2) for (size = 0, n = 2; n < (ssize_t)head; n++) size = size << 8 | f[n];
    if (c->have - at < head + size) break;
    take(c, f + head, size, f[0] & 15);
    at += head + size;
  }
  memmove(c->buffer, c->buffer + at, c->have -= at);
}

static void ping_all(void) { /* or a server takes us for gone */
  static int64_t last_ns;
  if (!last_ns) last_ns = now_ns();
  if (now_ns() - last_ns < PING_MS * 1000000LL) return;
  last_ns = now_ns();
  for (int i = 0; i < count; i++) send_all(clients[i].fd, "\x89\x80\0\0\0\0", 6);
}

static int wait_for(long total, long each) { /* 0 when all came */
  struct epoll_event events[256];
  for (;;) {
    ping_all();
    if (total && frames >= total) return 0;
    if (each) {
      int ready = 1;
      for (int i = 0; i < count && ready; i++) ready = clients[i].frames >= each;
      if (ready) return 0;
    }
    if (ended) return 2;
    int n = epoll_wait(poller, events, 256, SILENCE_MS);
    if (n == 0) return 1;
    for (int i = 0; i < n; i++) receive(events[i].data.ptr);
  }
}

static int by_size(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static long delay_us(double part) { return delay_count ? delays[(long)((delay_count - 1) * part)] / 1000 : 0; }

int main(int argc, char **argv) {
  static const char *outcomes[] = {"done", "short", "closed"};
  char line[64], join[65536];
  if (argc < 5) return fprintf(stderr, "usage: receiver PORT CONNECTIONS JOIN_FRAMES PATH [JOINS]\n"), 2;
  count = atoi(argv[2]);
  clients = calloc(count, sizeof *clients);
  delays = malloc(sizeof *delays * MOST_DELAYS);
  poller = epoll_create1(0);
  setvbuf(stdout, NULL, _IOLBF, 0);
  FILE *joins = argc > 5 ? fopen(argv[5], "r") : NULL;
  if (argc > 5 && !joins) fail(argv[5]);
  for (int i = 0; i < count; i++) {
    open_client(&clients[i], atoi(argv[1]), argv[4]);
    if (joins && fgets(join, sizeof join, joins)) { join[strcspn(join, "\n")] = 0; send_text(clients[i].fd, join); }
  }
  if (wait_for(0, atol(argv[3])) && atol(argv[3])) return printf("%s\n", ended ? "closed" : "short"), 1;
  printf("ready\n");
  while (fgets(line, sizeof line, stdin)) {
    frames = bytes = delay_count = 0;
    long before = cpu_us();
    printf("counting\n");
    int outcome = wait_for(atol(line), 0);
    qsort(delays, delay_count, sizeof *delays, by_size);
    printf("%s %lld %ld %ld %ld %ld %ld %ld %ld\n", outcomes[outcome], (long long)last_frame_ns, frames, bytes,
           cpu_us() - before, delay_us(.5), delay_us(.9), delay_us(.99), delay_us(1));
  }
  return 0;
}
