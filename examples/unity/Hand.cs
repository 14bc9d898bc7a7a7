// Unity: a tracked hand, and reading the hands of a message. See HandSubscriber.cs.

using System;
using System.Collections.Generic;
using MessagePack;
using UnityEngine;

public sealed class Hand
{
    public int Id;            // kept while the same hand stays tracked
    public string Side;       // "left" or "right"
    public float Confidence;  // 0 to 1
    public Vector3[] Joints = new Vector3[21]; // metres, Unity's axes, NaN where unknown; 0 wrist, 8 index tip
    public bool[] Tracked = new bool[21];      // true where seen in this frame, false where inferred

    const int Version = 1;

    // Unity is left-handed with y up. Camera space has x right, y down, z forward; world space is right-handed, z up.
    static Vector3 ToUnity(Vector3 v, bool world) => world ? new Vector3(v.x, v.z, v.y) : new Vector3(v.x, -v.y, v.z);

    // The hands of a message of the topic `hands.`; throws for anything else.
    public static List<Hand> ReadMessage(byte[] data)
    {
        var hands = new List<Hand>();
        bool world = false;
        var reader = new MessagePackReader(data);
        for (int fields = reader.ReadMapHeader(); fields > 0; fields--)
            switch (reader.ReadString())
            {
                case "version":
                    int version = reader.ReadInt32();
                    if (version != Version) throw new InvalidOperationException(
                        $"protocol version {version} arrived, this program reads version {Version}");
                    break;
                case "skeleton":
                    if (reader.ReadString() != "hand21") throw new InvalidOperationException(
                        "start the tracker without --skeleton: this program reads the joints of hand21");
                    break;
                case "space": world = reader.ReadString() == "world"; break;
                case "hands":
                    for (int count = reader.ReadArrayHeader(); count > 0; count--) hands.Add(ReadHand(ref reader));
                    break;
                default: reader.Skip(); break; // version 1 may gain fields
            }
        foreach (Hand hand in hands)
            for (int i = 0; i < 21; i++) hand.Joints[i] = ToUnity(hand.Joints[i], world);
        return hands;
    }

    static Hand ReadHand(ref MessagePackReader reader)
    {
        var hand = new Hand();
        int count;
        for (int fields = reader.ReadMapHeader(); fields > 0; fields--)
            switch (reader.ReadString())
            {
                case "id": hand.Id = reader.ReadInt32(); break;
                case "side": hand.Side = reader.ReadString(); break;
                case "confidence": hand.Confidence = reader.ReadSingle(); break;
                case "joints":
                    count = reader.ReadArrayHeader();
                    for (int i = 0; i < count; i++)
                    {
                        reader.ReadArrayHeader(); // always 3
                        hand.Joints[i] = new Vector3(reader.ReadSingle(), reader.ReadSingle(), reader.ReadSingle());
                    }
                    break;
                case "joint_tracked":
                    count = reader.ReadArrayHeader();
                    for (int i = 0; i < count; i++) hand.Tracked[i] = reader.ReadBoolean();
                    break;
                default: reader.Skip(); break;
            }
        return hand;
    }
}
