"""Power loss on a machine that keeps its power: an `LD_PRELOAD` library that remembers what was written and not synced.

kill -9 proves nothing about power: the kernel keeps the pages of a killed process and writes them later. The library
notes, before each write to a file below POWER_ROOT, what it is about to overwrite, and after each fsync, up to where
the notes are settled. `lose_power` then takes away what no fsync covered, in place and out of order, as a disk would
have it. Append-only files and files that are written again and again (SQLite) are treated alike.

    POWER_ROOT    only files below it are watched
    POWER_NOTES   the notes: header, old bytes; header, old bytes ...
    POWER_EIO     a file; while it is there, fsync of a file whose path contains its text fails with EIO and what was
                  written stays unsynced for ever, whatever fsync succeeds later (that is what Linux does); it is
                  taken away by the first such failure, unless its text begins with *

    note     u4 kind · u4 zero · u8 inode · u8 offset · u8 length · u8 size before · u8 bytes of old content, which
             follow; kind 1 write · 2 truncate (length = the new size) · 3 synced, 4 failed to sync (offset = place in
             the notes up to which)

What it does not see, and so takes as durable: writes through mapped memory, through stdio's own buffers, and names
(creating, renaming). Mapped files are the business of whoever loses the power: see `forget_mapped`.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

WRITE, TRUNCATE, SYNCED, FAILED = 1, 2, 3, 4
_NOTE: Final = struct.Struct("<IIQQQQQ")
Keep = Literal["nothing", "the first", "some"]
"""Of what was written and not synced nothing survives, or what was written first, or any part; of the last that does
only the beginning."""

SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNCED = 3, FAILED = 4 };
struct note { uint32_t kind, zero; uint64_t inode, offset, length, size, old; };

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t plain_write(int fd, const void *bytes, size_t n) {
  REAL(ssize_t, write, int, const void *, size_t);
  return real(fd, bytes, n);
}

static int watched(int fd, struct stat *st, char *path) {
  const char *root = getenv("POWER_ROOT");
  char link[64];
  if (!root || !getenv("POWER_NOTES") || fstat(fd, st) || !S_ISREG(st->st_mode)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, 4095);
  if (n <= 0) return 0;
  path[n] = 0;
  return !strncmp(path, root, strlen(root));
}

/* A description of its own each time, so that threads, workers and forked children exclude each other. */
static int begin(void) {
  int notes = open(getenv("POWER_NOTES"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  while (notes >= 0 && flock(notes, LOCK_EX) && errno == EINTR) {}
  return notes;
}

static void end(int notes) {
  int kept = errno;
  if (notes >= 0) { flock(notes, LOCK_UN); close(notes); }
  errno = kept;
}

static void put(int notes, const void *bytes, size_t n) {
  if (plain_write(notes, bytes, n) != (ssize_t)n) abort();
}

static void note(int notes, int fd, uint32_t kind, const struct stat *st, off_t offset, uint64_t length) {
  off_t from = kind == WRITE ? offset : (off_t)length;
  off_t to = kind == WRITE ? offset + (off_t)length : st->st_size;
  if (to > st->st_size) to = st->st_size;
  struct note head = {kind, 0, st->st_ino, offset, length, st->st_size, to > from ? to - from : 0};
  if (notes < 0) abort();
  put(notes, &head, sizeof head);
  if (!head.old) return;
  char link[64], old[65536];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int reading = open(link, O_RDONLY | O_CLOEXEC);
  for (off_t at = from; at < to;) {
    size_t n = to - at < (off_t)sizeof old ? to - at : sizeof old;
    ssize_t got = pread(reading, old, n, at);
    if (got <= 0) abort();
    put(notes, old, got);
    at += got;
  }
  close(reading);
}

static off_t place(int fd, const struct stat *st) {
  return fcntl(fd, F_GETFL) & O_APPEND ? st->st_size : lseek(fd, 0, SEEK_CUR);
}

#define NOTED(kind, offset, length, call) \
  struct stat st; char path[4096]; \
  if (!watched(fd, &st, path)) return call; \
  int notes = begin(); \
  fstat(fd, &st); \
  note(notes, fd, kind, &st, offset, length); \
  __typeof__(call) done = call; \
  end(notes); \
  return done

ssize_t write(int fd, const void *bytes, size_t n) {
  NOTED(WRITE, place(fd, &st), n, plain_write(fd, bytes, n));
}

static uint64_t total(const struct iovec *parts, int n) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += parts[i].iov_len;
  return sum;
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  NOTED(WRITE, place(fd, &st), total(parts, n), real(fd, parts, n));
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  NOTED(WRITE, at, n, real(fd, bytes, n, at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
  NOTED(WRITE, at, n, real(fd, bytes, n, at));
}

int ftruncate(int fd, off_t size) {
  REAL(int, ftruncate, int, off_t);
  NOTED(TRUNCATE, 0, size, real(fd, size));
}

int ftruncate64(int fd, off64_t size) {
  REAL(int, ftruncate64, int, off64_t);
  NOTED(TRUNCATE, 0, size, real(fd, size));
}

static int fails(const char *path) {
  const char *name = getenv("POWER_EIO");
  char text[256];
  int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return 0;
  ssize_t n = read(file, text, sizeof text - 1);
  close(file);
  if (n <= 0) return 0;
  text[n] = 0;
  int always = text[0] == '*';
  if (!strstr(path, text + always)) return 0;
  return always || !unlink(name);
}

static int synced(int fd, int (*real)(int)) {
  struct stat st; char path[4096];
  if (!watched(fd, &st, path)) return real(fd);
  int notes = begin();
  struct note head = {SYNCED, 0, st.st_ino, lseek(notes, 0, SEEK_END), 0, 0, 0};
  if (fails(path)) {
    head.kind = FAILED;
    put(notes, &head, sizeof head);
    end(notes);
    errno = EIO;
    return -1;
  }
  end(notes);
  int done = real(fd);
  if (done) return done;
  notes = begin();
  put(notes, &head, sizeof head);
  end(notes);
  return 0;
}

int fsync(int fd) {
  REAL(int, fsync, int);
  return synced(fd, real);
}

int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  return synced(fd, real);
}
"""


def build(directory: Path) -> Path | None:
    """The library, compiled into `directory`; None where there is no C compiler or no LD_PRELOAD."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or os.uname().sysname != "Linux":
        return None
    source, library = directory / "power.c", directory / "power.so"
    source.write_text(SOURCE)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O2", "-w", "-o", str(library), str(source), "-ldl"], check=True, timeout=120
    )
    return library


def environment(library: Path, root: Path, notes: Path) -> dict[str, str]:
    """What a process and its children need so that files below `root` are watched. `notes` may not be below it."""
    return {
        "LD_PRELOAD": str(library), "POWER_ROOT": f"{root.resolve()}/", "POWER_NOTES": str(notes.resolve()),
        "POWER_EIO": f"{notes.resolve()}.eio",
    }  # fmt: skip


@dataclass(slots=True)
class _Write:
    """One write or truncation of a file."""

    kind: int
    at: int  # its place in the notes
    offset: int
    length: int
    size: int  # of the file before
    old: bytes
    durable: bool = False
    new: bytes = b""


@dataclass(slots=True)
class Lost:
    """What a loss of power took away."""

    writes: int = 0  # not synced when it happened
    survived: int = 0  # of those
    files: int = 0  # that had any


def lose_power(notes: Path, root: Path, keep: Keep, rng: random.Random) -> Lost:
    """Take away what was written below `root` and not synced; every writer must be dead. The notes begin anew."""
    files = {path.stat().st_ino: path for path in root.rglob("*") if path.is_file()}
    lost = Lost()
    for inode, writes in _noted(notes).items():
        unsynced = [write for write in writes if not write.durable]
        if inode not in files or not unsynced:
            continue
        survivors = _survivors(unsynced, keep, rng)
        lost.files += 1
        lost.writes += len(unsynced)
        lost.survived += len(survivors)
        torn = rng.random() if survivors else 1.0
        _rewrite(files[inode], writes[writes.index(unsynced[0]) :], survivors, torn)
    notes.unlink(missing_ok=True)
    return lost


def forget_mapped(root: Path) -> None:
    """Take away the files that are written through mapped memory and never synced: SQLite's index of its log, the
    counter of pending rows and the table of what was sent. A disk may have any state of them, and none at the worst."""
    for pattern in ("*-shm", "*.pending", "sent-*.map"):
        for path in root.rglob(pattern):
            path.unlink()


def _noted(notes: Path) -> dict[int, list[_Write]]:
    """All writes by inode, in order, and whether a sync covers them. A torn last note is of a write that never was."""
    raw = notes.read_bytes() if notes.exists() else b""
    found: dict[int, list[_Write]] = {}
    waiting: dict[int, list[_Write]] = {}
    at = 0
    while at + _NOTE.size <= len(raw):
        kind, _, inode, offset, length, size, old = _NOTE.unpack_from(raw, at)
        begins, at = at, at + _NOTE.size + old
        if at > len(raw):
            break
        if kind in (WRITE, TRUNCATE):
            write = _Write(kind, begins, offset, length, size, raw[at - old : at])
            found.setdefault(inode, []).append(write)
            waiting.setdefault(inode, []).append(write)
            continue
        covered = [write for write in waiting.get(inode, ()) if write.at < offset]
        waiting[inode] = [write for write in waiting.get(inode, ()) if write.at >= offset]
        for write in covered:
            write.durable = kind == SYNCED  # what once failed to sync is in nobody's list any more
    return found


def _survivors(unsynced: Sequence[_Write], keep: Keep, rng: random.Random) -> list[_Write]:
    match keep:
        case "nothing":
            return []
        case "the first":
            return list(unsynced[: rng.randint(0, len(unsynced))])
        case "some":
            return [write for write in unsynced if rng.random() < 0.5]


def _rewrite(path: Path, writes: Sequence[_Write], survivors: Sequence[_Write], torn: float) -> None:
    """Undo `writes`, newest first, then do again those that are durable or survive, the last survivor in part."""
    with path.open("r+b") as file:
        for write in reversed(writes):
            if write.kind == WRITE:
                file.seek(write.offset)
                write.new = file.read(write.length)
            file.seek(write.offset if write.kind == WRITE else write.length)
            file.write(write.old)
            file.truncate(write.size)
        alive = {id(write) for write in survivors}
        if survivors:
            survivors[-1].new = survivors[-1].new[: int(torn * len(survivors[-1].new))]
        for write in writes:
            if not write.durable and id(write) not in alive:
                continue
            if write.kind == WRITE:
                file.seek(write.offset)
                file.write(write.new)
            else:
                file.truncate(write.length)
