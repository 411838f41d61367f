// A key-value store in one file. It appends a record for each `put`, and the last record of a key counts.
//
//   store DIR put KEY VALUE   returns when the record is durable
//   store DIR get KEY         prints the value; exits with 1 if there is none
//
// With NO_SYNC in the environment, it forgets to make a record durable.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct record {
  uint32_t sum;
  char key[60], value[448];
};

static void die(const char *what) {
  perror(what);
  exit(2);
}

static uint32_t sum_of(const struct record *record) {
  uint32_t sum = 2166136261u;
  for (const char *at = record->key; at < (const char *)(record + 1); at++)
    sum = (sum ^ (unsigned char)*at) * 16777619u;
  return sum;
}

int main(int argc, char **argv) {
  if (argc < 4 || chdir(argv[1])) die("DIR, command and KEY are needed");
  int is_put = !strcmp(argv[2], "put") && argc == 5;
  int file = open("records", is_put ? O_RDWR | O_CREAT : O_RDONLY, 0644);
  if (file < 0) die("records");

  // A record that a crash has left incomplete ends the file; the next one takes its place.
  struct record record;
  off_t end = 0;
  char value[sizeof record.value] = "";
  int found = 0;
  while (pread(file, &record, sizeof record, end) == sizeof record && record.sum == sum_of(&record)) {
    if (!strncmp(record.key, argv[3], sizeof record.key)) {
      memcpy(value, record.value, sizeof value);
      found = 1;
    }
    end += sizeof record;
  }
  if (!is_put) {
    if (found) puts(value);
    return !found;
  }

  memset(&record, 0, sizeof record);
  snprintf(record.key, sizeof record.key, "%s", argv[3]);
  snprintf(record.value, sizeof record.value, "%s", argv[4]);
  record.sum = sum_of(&record);
  if (pwrite(file, &record, sizeof record, end) != sizeof record) die("write");
  if (!getenv("NO_SYNC")) {
    if (fsync(file)) die("sync of the records");
    int folder = open(".", O_RDONLY);
    if (folder < 0 || fsync(folder)) die("sync of the folder");
  }
  return 0;
}
