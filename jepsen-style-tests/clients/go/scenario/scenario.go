// Package scenario says what every client is asked to do, and how it is judged (see ../../README.md).
package scenario

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	Partitions     = 3
	Replication    = 3
	PerCodec       = 12
	Resumed        = 6
	Wait           = 40 * time.Second
	streamDuration = 8 * time.Second
)

var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// A Header of a record. Headers has one key twice: what keeps them in a map loses one of them.
type Header struct{ Key, Value string }

var Headers = []Header{{"trace", "a"}, {"trace", "b"}, {"empty", ""}}

// A Record as sent or read; a nil key or value is null.
type Record struct {
	Partition  int32
	Key, Value []byte
	Headers    []Header
}

// Records sent with one codec: with and without key, with and without value, every byte.
func Records(codec string, count int) []Record {
	var everyByte []byte
	for b := range 256 {
		everyByte = append(everyByte, byte(b))
	}
	var records []Record
	for i := range count {
		record := Record{Partition: int32(i % Partitions), Headers: Headers}
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

// ByPartition sorts records by partition and leaves the order within each.
func ByPartition(records []Record) [Partitions][]Record {
	var sorted [Partitions][]Record
	for _, record := range records {
		sorted[record.Partition] = append(sorted[record.Partition], record)
	}
	return sorted
}

// Ends are the offsets after the last record of each partition.
func Ends(records []Record) [Partitions]int64 {
	var ends [Partitions]int64
	for _, record := range records {
		ends[record.Partition]++
	}
	return ends
}

// Compare complains about the first difference between what was sent and what was read.
func Compare(sent, got []Record) error {
	found := ByPartition(got)
	for p, expected := range ByPartition(sent) {
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

// Shared tells whether two members have some each, none both, and together all partitions.
func Shared(a, b []int32) bool {
	all := map[int32]bool{}
	for _, p := range append(append([]int32{}, a...), b...) {
		all[p] = true
	}
	return len(a) > 0 && len(b) > 0 && len(a)+len(b) == Partitions && len(all) == Partitions
}

// Report collects what each step came to; after an error in one, the next one is tried.
type Report struct {
	Client  string            `json:"client"`
	Version string            `json:"version"`
	Steps   map[string]string `json:"steps"`
}

func NewReport(client, module string) *Report {
	return &Report{client, Version(module), map[string]string{}}
}

func (r *Report) Step(name string, work func() error) {
	fmt.Fprintln(os.Stderr, name)
	r.Steps[name] = "ok"
	if err := work(); err != nil {
		r.Steps[name] = err.Error()
	}
}

func (r *Report) Print() { PrintLine(r) }

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

func NewStream(client, module string, count int) *Stream {
	return &Stream{Client: client, Version: Version(module), Idempotent: true, Sent: count, acked: map[int]bool{}, began: time.Now()}
}

// Pace holds record i back, so that the run takes long enough for a broker to die in it.
func (s *Stream) Pace(i int) {
	time.Sleep(time.Until(s.began.Add(streamDuration * time.Duration(i) / time.Duration(s.Sent))))
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

// Print judges the numbers that were read at the end, as often as they came.
func (s *Stream) Print(got []int) {
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
	PrintLine(s)
}

func PrintLine(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// Version of a module that this program was built with.
func Version(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return "?"
}

// Arguments are BOOTSTRAP TOPIC [--stream N], the same for every client.
func Arguments() (bootstrap []string, topic string, stream int) {
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	count := flags.Int("stream", 0, "records of the long run")
	if len(os.Args) < 3 || flags.Parse(os.Args[3:]) != nil {
		panic("BOOTSTRAP TOPIC [--stream N]")
	}
	return strings.Split(os.Args[1], ","), os.Args[2], *count
}
