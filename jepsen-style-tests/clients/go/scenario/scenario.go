// Package scenario says what every client is asked to do, and how it is judged (see ../../README.md).
package scenario

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	Partitions  = 3
	Replication = 3
	perCodec    = 12
	resumed     = 6
	Wait        = 40 * time.Second
)

var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// A Header of a record. headers has one key twice: what keeps them in a map loses one of them.
type Header struct{ Key, Value string }

var headers = []Header{{"trace", "a"}, {"trace", "b"}, {"empty", ""}}

// A Record as sent or read; a nil key or value is null.
type Record struct {
	Partition  int32
	Key, Value []byte
	Headers    []Header
}

// records are what is sent with one codec: with and without key, with and without value, every byte.
func records(codec string, count int) []Record {
	var everyByte []byte
	for b := range 256 {
		everyByte = append(everyByte, byte(b))
	}
	var records []Record
	for i := range count {
		record := Record{Partition: int32(i % Partitions), Headers: headers}
		if i%4 == 0 || i%4 == 2 {
			record.Key = fmt.Appendf(nil, "%s-%d", codec, i)
		}
		if i%4 == 0 || i%4 == 1 {
			record.Value = append(fmt.Appendf(nil, "%s %d ", codec, i), everyByte...)
			record.Value = append(record.Value, strings.Repeat("x", 100*i)...)
		}
		records = append(records, record)
	}
	return records
}

// byPartition sorts records by partition and leaves the order within each.
func byPartition(records []Record) [Partitions][]Record {
	var sorted [Partitions][]Record
	for _, record := range records {
		sorted[record.Partition] = append(sorted[record.Partition], record)
	}
	return sorted
}

// ends are the offsets after the last record of each partition.
func ends(records []Record) [Partitions]int64 {
	var ends [Partitions]int64
	for _, record := range records {
		ends[record.Partition]++
	}
	return ends
}

// compare complains about the first difference between what was sent and what was read.
func compare(sent, got []Record) error {
	found := byPartition(got)
	for p, expected := range byPartition(sent) {
		for at := range min(len(expected), len(found[p])) {
			if a, b := expected[at], found[p][at]; !same(a, b) {
				return fmt.Errorf("partition %d, record %d: sent %s, read %s", p, at, short(a), short(b))
			}
		}
		if len(expected) != len(found[p]) {
			return fmt.Errorf("partition %d: sent %d, read %d", p, len(expected), len(found[p]))
		}
	}
	return nil
}

func same(a, b Record) bool {
	null := (a.Key == nil) == (b.Key == nil) && (a.Value == nil) == (b.Value == nil)
	return null && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && fmt.Sprint(a.Headers) == fmt.Sprint(b.Headers)
}

func short(r Record) string {
	return fmt.Sprintf("key %q value %.20q headers %v", r.Key, r.Value, r.Headers)
}

// WaitFor waits until the condition is true.
func WaitFor(what string, condition func() (bool, error)) error {
	for until := time.Now().Add(Wait); ; time.Sleep(50 * time.Millisecond) {
		if done, err := condition(); done || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("after %s not yet: %s", Wait, what)
		}
	}
}

// shared tells whether two members have some each, none both, and together all partitions.
func shared(a, b []int32) bool {
	all := map[int32]bool{}
	for _, p := range append(append([]int32{}, a...), b...) {
		all[p] = true
	}
	return len(a) > 0 && len(b) > 0 && len(a)+len(b) == Partitions && len(all) == Partitions
}

// A report collects what each step came to; after an error in one, the next one is tried.
type report struct {
	Client  string            `json:"client"`
	Version string            `json:"version"`
	Steps   map[string]string `json:"steps"`
}

func newReport(client, module string) *report {
	return &report{client, version(module), map[string]string{}}
}

func (r *report) step(name string, work func() error) {
	fmt.Fprintln(os.Stderr, name)
	r.Steps[name] = "ok"
	if err := work(); err != nil {
		r.Steps[name] = err.Error()
	}
}

// Stream is the long run: what was acknowledged, at which pace, and whether it came back once each.
type Stream struct {
	Client     string `json:"client"`
	Version    string `json:"version"`
	Idempotent bool   `json:"idempotent"`
	Sent       int    `json:"sent"`
	Acked      int    `json:"acked"`
	Refused    int    `json:"refused"`
	Refusal    string `json:"refusal,omitempty"`
	Missing    int    `json:"missing"`
	Duplicates int    `json:"duplicates"`

	lock      sync.Mutex
	acked     map[int]bool
	began     time.Time
	announced bool
}

func newStream(client, module string, count int) *Stream {
	return &Stream{Client: client, Version: version(module), Idempotent: true, Sent: count, acked: map[int]bool{}, began: time.Now()}
}

// streamTime is how long the long run takes, if nothing holds it up.
func streamTime() time.Duration {
	if seconds, err := strconv.Atoi(os.Getenv("STREAM_SECONDS")); err == nil {
		return time.Duration(seconds) * time.Second
	}
	return 8 * time.Second
}

// Pace holds record i back, so that the run takes long enough for a broker to die in it.
func (s *Stream) Pace(i int) {
	time.Sleep(time.Until(s.began.Add(streamTime() * time.Duration(i) / time.Duration(s.Sent))))
}

// Told notes that record i is acknowledged, or that the client gave it up: then it is not lost, since it said so. After a
// third of all the driver is told to kill.
func (s *Stream) Told(i int, err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if err != nil {
		s.Refused, s.Refusal = s.Refused+1, err.Error()
		return
	}
	s.acked[i] = true
	s.Acked = len(s.acked)
	if s.Acked >= s.Sent/3 && !s.announced {
		s.announced = true
		fmt.Println("a third is acknowledged")
	}
}

// judge holds against what was acknowledged the numbers that were read at the end, as often as they came.
func (s *Stream) judge(got []int) {
	read := map[int]bool{}
	for _, i := range got {
		read[i] = true
	}
	s.Duplicates = len(got) - len(read)
	for i := range s.acked {
		if !read[i] {
			s.Missing++
		}
	}
	printLine(s)
}

func printLine(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// version of a module that this program was built with.
func version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return "?"
}

// arguments are BOOTSTRAP TOPIC [--stream N], the same for every client.
func arguments() (bootstrap []string, topic string, stream int) {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	count := flags.Int("stream", 0, "records of the long run")
	if len(os.Args) < 3 || flags.Parse(os.Args[3:]) != nil {
		panic("BOOTSTRAP TOPIC [--stream N]")
	}
	return strings.Split(os.Args[1], ","), os.Args[2], *count
}
